DECLARE @handling nvarchar(max) = ?;
DECLARE
    @event bigint = JSON_VALUE(@handling, '$.event_id'),
    @user bigint = JSON_VALUE(@handling, '$.user_id'),
    @note nvarchar(1000) = JSON_VALUE(@handling, '$.note');
EXEC dbo.sp_operator_resolve_event @p_event_id = @event, @p_user_id = @user, @p_note = @note;
