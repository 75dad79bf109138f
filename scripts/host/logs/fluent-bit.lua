-- What of a record is sent, in the names that rsyslog.conf gives it. Fluent Bit's filter, of Lua 5.1; scripts/lab/test-logs tries it.
-- Each is called with a tag, a time and a record, and answers: -1 drops it, 1 takes time and record, 2 the record.

local HOST = io.open("/proc/sys/kernel/hostname"):read()
local LEVELS = {[0] = "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

-- RFC 3339 in UTC, as our tools write it, as seconds since 1970; nil of anything else.
local function seconds(text)
    if type(text) ~= "string" then return nil end
    local year, month, day, hour, minute, second = text:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d%.?%d*)Z$")
    if not year then return nil end
    year, month = tonumber(year), tonumber(month)
    if month <= 2 then year, month = year - 1, month + 12 end
    local days = 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
        + math.floor((153 * (month - 3) + 2) / 5) + tonumber(day) - 719469
    return days * 86400 + tonumber(hour) * 3600 + tonumber(minute) * 60 + tonumber(second)
end

-- A line of the event log: the fields that are for everybody.
function event(tag, time, record)
    if type(record.event) == "table" then -- changes of the hardware have these names already
        local at = seconds(record["@timestamp"])
        if not at then return -1, time, record end
        return 1, at, {
            event = {action = record.event.action, id = record.event.id}, host = {name = HOST},
            process = {name = record.event.provider}, labtools = record.labtools, message = record.message,
        }
    end
    local at = seconds(record.at)
    if not at then return -1, time, record end
    local said = {record.event}
    said[#said + 1] = record.tool
    said[#said + 1] = record.command
    return 1, at, {
        event = {action = record.event}, host = {name = HOST}, process = {name = record.tool or "labtools"},
        labtools = {command = record.command, status = record.status, seconds = record.seconds, boot_id = record.boot_id},
        message = record.error or table.concat(said, " "),
    }
end

-- A line of the journal.
function journal(tag, time, record)
    return 2, time, {
        host = {name = HOST}, process = {name = record.SYSLOG_IDENTIFIER, pid = tonumber(record._PID)},
        log = {level = LEVELS[tonumber(record.PRIORITY)]}, message = record.MESSAGE,
    }
end
