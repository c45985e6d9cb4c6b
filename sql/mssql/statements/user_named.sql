SELECT id FROM dbo.users WHERE username = ?;
