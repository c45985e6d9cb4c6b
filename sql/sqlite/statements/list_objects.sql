SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'view', 'trigger');
