-- Pktgen script: the RFC 2544 throughput of weft between two of Pktgen's ports, for each length of frame.
--
--   pktgen -l 0-4 ... -- -P -m "[1:2].0" -m "[3:4].1" -f benches/pktgen/throughput.lua
--
-- docs/benchmarking.md says how to set up both servers, and which settings there are in the environment.

local folder = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local rfc2544 = require("rfc2544")
local settings = require("settings")
local traffic = require("traffic")

local s = settings.read(os.getenv)

local function show(t)
    print(string.format("  %6.2f%% for %g s: %.0f frames/s, %d sent, %d lost%s", t.percent, t.seconds, rfc2544.offered(t), t.sent,
        t.sent - t.received, t.passed and "" or ": too many"))
end

local function main()
    pktgen.screen("off")
    local rows = {}
    -- The frames of a pcap file have the lengths that they have.
    for _, size in ipairs(s.send == "pcap" and { 0 } or s.sizes) do
        local name = s.send == "pcap" and "pcap" or string.format("plain, %d MACs, %d B", s.macs, size)
        print(name)
        traffic.setup(pktgen, s, size)
        local trial, trials = rfc2544.search {
            trial = function(percent, seconds) return traffic.trial(pktgen, s, percent, seconds) end,
            seconds = s.seconds, confirm = s.confirm, highest = s.highest, resolution = s.resolution, loss = s.loss,
            report = show,
        }
        rows[#rows + 1] = { name = name, trial = trial, trials = trials }
    end
    local text = rfc2544.table(rows)
    if s.loss > 0 then
        text = text .. string.format("\nNot RFC 2544's throughput: %g%% of the frames may be lost.", s.loss * 100)
    end
    print("\n" .. text)
    local file = assert(io.open(s.results, "a"))
    file:write(os.date("%Y-%m-%d %H:%M:%S\n"), text, "\n\n")
    file:close()
end

local ok, problem = xpcall(main, function(e) return tostring(e) end)
pktgen.stop("all")
if not ok then
    print("throughput.lua: " .. problem)
end
pktgen.quit()
