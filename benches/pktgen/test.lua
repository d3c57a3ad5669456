-- Tests of the Pktgen scripts, without Pktgen: lua5.3 benches/pktgen/test.lua
--
-- Pktgen's own module is played by a table that knows the functions which the scripts may call, with as many arguments as
-- Pktgen's C code takes (app/lpktgenlib.c, releases 24.07 and 26.02): anything else is an error, as it is there.

package.path = (arg[0]:match("(.*/)") or "./") .. "?.lua;" .. package.path

local rfc2544 = require("rfc2544")
local settings = require("settings")
local traffic = require("traffic")

local function equal(is, wanted, what)
    if is ~= wanted then error(string.format("%s: %s instead of %s", what, tostring(is), tostring(wanted)), 2) end
end

local function fails(wanted, f, ...)
    local ok, problem = pcall(f, ...)
    if ok then error("no error, where there should be: " .. wanted, 2) end
    if not tostring(problem):find(wanted, 1, true) then error("another error: " .. tostring(problem), 2) end
end

-- Frames a second at 100%.
local LINE = 1000000

-- A switch that forwards `limit` percent of the line, and loses the rest.
local function switch(limit)
    return function(percent, seconds)
        local sent = math.floor(LINE * percent / 100 * seconds)
        return sent, math.min(sent, math.floor(LINE * limit / 100 * seconds))
    end
end

local function search(o)
    o.seconds, o.confirm = o.seconds or 10, o.confirm or 60
    return rfc2544.search(o)
end

local PLAIN = {
    set = 3, set_mac = 3, set_ipaddr = 3, set_type = 2, set_proto = 2, set_range = 2, process = 2, pcap = 2, start = 1,
    stop = 1, delay = 1, clr = 0,
}
local RANGE = {
    src_mac = 3, dst_mac = 3, src_ip = 3, dst_ip = 3, src_port = 3, dst_port = 3, pkt_size = 3, ip_proto = 2,
}

-- Pktgen: `calls` gets what was called, as "name(arguments)". `new`: portStats of release 26. The port 0 has sent 1,000
-- frames and the port 1 received 990.
local function stub(calls, new)
    local function record(prefix, arity)
        local module = {}
        for name, n in pairs(arity) do
            module[name] = function(...)
                if select("#", ...) ~= n then error(name .. ", wrong number of arguments") end
                local words = {}
                for i, v in ipairs({ ... }) do words[i] = tostring(v) end
                calls[#calls + 1] = prefix .. name .. "(" .. table.concat(words, ",") .. ")"
            end
        end
        return setmetatable(module, { __index = function(_, name) error("Pktgen has no " .. prefix .. name) end })
    end
    local pktgen = record("", PLAIN)
    rawset(pktgen, "range", record("range.", RANGE))
    rawset(pktgen, "portStats", function(...)
        if select("#", ...) ~= (new and 1 or 2) then error("portStats, wrong number of arguments") end
        local port = math.tointeger(tonumber((...)))
        local of_port = port == 0 and { opackets = 1000, ipackets = 3 } or port == 1 and { opackets = 4, ipackets = 990 } or nil
        return { [port] = new and of_port and { curr = of_port } or of_port, n = of_port and 1 or 0 }
    end)
    return pktgen
end

local function has(calls, call)
    for _, c in ipairs(calls) do if c == call then return true end end
    return false
end

local function environment(values) return function(name) return values[name] end end

local tests = {}

function tests.the_search_ends_within_the_resolution_below_the_limit()
    for _, limit in ipairs { 0.9, 1.6, 12.34, 50, 73.2, 99.9 } do
        local found, trials = search { trial = switch(limit), resolution = 0.25 }
        assert(found.percent <= limit and found.percent > limit - 0.25, limit .. ": " .. found.percent)
        assert(found.confirms and found.passed and found.seconds == 60)
        -- 100, then halving 100 down to 0.25, then the confirmation.
        equal(#trials, 1 + 9 + 1, "trials")
    end
end

function tests.a_switch_at_line_rate_needs_no_search()
    local found, trials = search { trial = switch(200) }
    equal(found.percent, 100, "percent")
    equal(#trials, 2, "trials")
    equal(rfc2544.offered(found), LINE, "frames a second")
end

function tests.a_rate_that_does_not_last_is_lowered()
    -- Passes 60% for seconds, 58% for a minute.
    local short, long = switch(60), switch(58)
    local found = search {
        resolution = 0.5, trial = function(p, s) return (s > 30 and long or short)(p, s) end,
    }
    assert(found.percent <= 58 and found.percent > 57, found.percent)
end

function tests.loss_at_any_rate_is_no_result()
    local found, trials = search { trial = function() return 1000, 999 end, resolution = 10 }
    equal(found, nil, "result")
    assert(#trials > 1)
    -- Zero was never tried.
    for _, t in ipairs(trials) do assert(t.percent > 0) end
end

function tests.tolerated_loss_is_a_share_of_what_was_sent()
    local lossy = function() return 10000, 9990 end
    equal(search({ trial = lossy, loss = 0.001 }).percent, 100, "percent")
    equal(search({ trial = lossy, loss = 0.0009 }), nil, "result")
end

function tests.more_received_than_sent_passes()
    -- weft's own ARP requests arrive, too.
    equal(search({ trial = function() return 1000, 1001 end }).percent, 100, "percent")
end

function tests.nothing_sent_is_an_error_and_no_success()
    fails("nothing was sent", search, { trial = function() return 0, 0 end })
end

function tests.every_trial_is_reported()
    local seen = 0
    local _, trials = search { trial = switch(40), report = function() seen = seen + 1 end }
    equal(seen, #trials, "reports")
end

function tests.the_table_has_a_line_for_each_result()
    local found, trials = search { trial = switch(50) }
    local text = rfc2544.table { { name = "good", trial = found, trials = trials }, { name = "bad", trials = trials } }
    local lines = select(2, text:gsub("\n", "\n"))
    equal(lines, 2, "line breaks")
    assert(text:find("good +50.00 +500000 +30000000 +0 ") and text:find("bad +none"), text)
end

function tests.settings_have_defaults_and_limits()
    local s = settings.read(environment {})
    equal(s.macs, 1, "MACs")
    equal(s.confirm, 60, "confirm")
    equal(#s.sizes, 7, "sizes")
    equal(settings.read(environment { WEFT_SIZES = "64,1468" }).sizes[2], 1468, "size")
    fails("WEFT_MACS=0", settings.read, environment { WEFT_MACS = "0" })
    fails("WEFT_MACS", settings.read, environment { WEFT_MACS = "1.5" })
    fails("WEFT_SIZES: '63'", settings.read, environment { WEFT_SIZES = "63" })
    fails("WEFT_SIZES", settings.read, environment { WEFT_SIZES = "" })
    fails("WEFT_SEND=vxlan", settings.read, environment { WEFT_SEND = "vxlan" })
end

function tests.one_flow_is_a_single_packet()
    local calls = {}
    traffic.setup(stub(calls), settings.read(environment {}), 64)
    assert(has(calls, "set_range(0,off)") and has(calls, "set_mac(0,dst,02:10:00:00:00:00)") and has(calls, "set(0,size,64)"))
    assert(has(calls, "set(0,count,0)"), "endless")
end

function tests.ranges_have_as_many_addresses_as_asked_for()
    local last = {
        [2] = { "00:00:01", "128.0.1" }, [1000] = { "00:03:e7", "128.3.231" }, [10000] = { "00:27:0f", "128.39.15" },
        [100000] = { "01:86:9f", "129.134.159" }, [1000000] = { "0f:42:3f", "143.66.63" },
    }
    for macs, wanted in pairs(last) do
        local calls = {}
        traffic.setup(stub(calls), settings.read(environment { WEFT_MACS = tostring(macs) }), 1468)
        assert(has(calls, "range.dst_mac(0,min,02:10:00:00:00:00)") and has(calls, "range.dst_mac(0,inc,00:00:00:00:00:01)"))
        assert(has(calls, "range.dst_mac(0,max,02:10:00:" .. wanted[1] .. ")"), macs)
        assert(has(calls, "range.dst_ip(0,max,10." .. wanted[2] .. ")"), macs)
        assert(has(calls, "range.pkt_size(0,start,1468)") and has(calls, "set_range(0,on)"))
    end
end

function tests.the_peer_answers_arp_unless_it_is_the_sender()
    local calls = {}
    traffic.setup(stub(calls), settings.read(environment {}), 64)
    assert(has(calls, "process(1,on)") and has(calls, "set_ipaddr(1,src,192.168.50.2/24)"))
    calls = {}
    traffic.setup(stub(calls), settings.read(environment { WEFT_SEND = "pcap", WEFT_TX = "1", WEFT_RX = "0" }), 0)
    assert(has(calls, "pcap(1,on)") and not has(calls, "process(1,on)"))
end

function tests.a_trial_counts_what_the_ports_say_in_either_release()
    for _, new in ipairs { false, true } do
        local calls = {}
        local sent, received = traffic.trial(stub(calls, new), settings.read(environment {}), 12.5, 2.5)
        equal(sent, 1000, "sent")
        equal(received, 990, "received")
        -- In this order: the rate holds before the first frame, and nothing from before is counted.
        equal(table.concat(calls, " "), "set(0,rate,12.5) clr() start(0) delay(2500) stop(0) delay(3000)", "calls")
    end
end

function tests.a_port_that_is_not_there_is_named()
    fails("no port 7", traffic.trial, stub({}), settings.read(environment { WEFT_RX = "7" }), 1, 1)
end

local names, failed = {}, 0
for name in pairs(tests) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
    local ok, problem = xpcall(tests[name], debug.traceback)
    print((ok and "ok      " or "FAILED  ") .. name:gsub("_", " "))
    if not ok then
        failed = failed + 1
        print(problem)
    end
end
print(string.format("%d tests, %d failed", #names, failed))
os.exit(failed == 0 and #names > 0)
