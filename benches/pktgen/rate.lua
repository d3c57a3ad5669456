-- Pktgen script: what weft forwards of all that Pktgen can send, as `make bench` measures it from inside.
--
-- Sends at the highest rate for WEFT_SECONDS, for each length of frame, and prints what came back. docs/benchmarking.md has the set-up.

local folder = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local settings = require("settings")
local traffic = require("traffic")

local s = settings.read(os.getenv)

local function main()
    pktgen.screen("off")
    local file = assert(io.open(s.results, "a"))
    file:write(os.date("%Y-%m-%d %H:%M:%S\n"))
    for _, size in ipairs(s.send == "pcap" and { 0 } or s.sizes) do
        local name = s.send == "pcap" and "pcap" or string.format("plain, %d MACs, %d B", s.macs, size)
        traffic.setup(pktgen, s, size)
        local sent, received = traffic.trial(pktgen, s, s.highest, s.seconds)
        local line = string.format("%-28s sent %.3f Mpps, received %.3f Mpps, lost %.1f%%", name, sent / s.seconds / 1e6,
            received / s.seconds / 1e6, sent > 0 and (1 - received / sent) * 100 or 0)
        print(line)
        file:write(line, "\n")
    end
    file:write("\n")
    file:close()
end

local ok, problem = xpcall(main, function(e) return tostring(e) end)
pktgen.stop("all")
if not ok then
    print("rate.lua: " .. problem)
end
pktgen.quit()
