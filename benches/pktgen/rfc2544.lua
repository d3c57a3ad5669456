-- RFC 2544 section 26.1, throughput: the highest rate at which no frame is lost.
--
-- Knows nothing of Pktgen: what runs a trial is handed in. That is how it is tested.

local rfc2544 = {}

-- Looks for the highest rate, in percent of the link's, by bisection between what passed and what failed.
--
-- o.trial       function(percent, seconds): frames sent, frames received
-- o.seconds     length of a trial
-- o.confirm     length of the trial that confirms the result; the RFC asks for 60 s (section 24)
-- o.highest     percent to begin with, 100 if left out
-- o.resolution  percentage points between the result and what is known to fail, 0.5 if left out
-- o.loss        share of frames that may be lost, 0 if left out: the RFC's throughput. Anything else must be said with the result
-- o.report      function(trial), after each; see below
--
-- Returns the trial that was confirmed: percent, seconds, sent, received, passed, confirms. Or nil, if even the lowest rate
-- that was tried lost frames. And a list of all trials.
function rfc2544.search(o)
    local resolution, highest, loss = o.resolution or 0.5, o.highest or 100, o.loss or 0
    assert(resolution > 0, "resolution must be more than 0")
    local trials = {}

    local function try(percent, seconds, confirms)
        local sent, received = o.trial(percent, seconds)
        if sent == 0 then
            error(string.format("nothing was sent at %.2f%%: is the link up, and is this the sending port?", percent), 0)
        end
        local t = {
            percent = percent, seconds = seconds, sent = sent, received = received, confirms = confirms,
            passed = sent - received <= sent * loss,
        }
        trials[#trials + 1] = t
        if o.report then o.report(t) end
        return t
    end

    -- Invariant: `low` passed (or is 0, which was not tried), `high` failed.
    local low, high = 0, highest
    if try(highest, o.seconds, false).passed then
        low = highest
    end
    while low < high and high - low > resolution do
        local middle = (low + high) / 2
        if try(middle, o.seconds, false).passed then low = middle else high = middle end
    end

    -- What passed for seconds may fail in a minute: then the result is lower, by steps of the resolution.
    while low > 0 do
        local t = try(low, o.confirm, true)
        if t.passed then return t, trials end
        low = low - resolution
    end
    return nil, trials
end

-- Frames per second that a trial sent. A generator that cannot keep up with the rate it was told shows here.
function rfc2544.offered(trial)
    return trial.sent / trial.seconds
end

-- A table of results as text. rows: { name =, trial = or nil, trials = }.
function rfc2544.table(rows)
    local lines = { string.format("%-28s %8s %12s %14s %14s %7s", "case", "rate %", "frames/s", "sent", "lost", "trials") }
    for _, row in ipairs(rows) do
        local t = row.trial
        if t then
            lines[#lines + 1] = string.format("%-28s %8.2f %12.0f %14d %14d %7d", row.name, t.percent, rfc2544.offered(t),
                t.sent, t.sent - t.received, #row.trials)
        else
            lines[#lines + 1] = string.format("%-28s %8s %12s %14s %14s %7d", row.name, "none", "-", "-", "-", #row.trials)
        end
    end
    return table.concat(lines, "\n")
end

return rfc2544
