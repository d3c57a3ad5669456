-- Pktgen's side: which frames are sent, a trial, and who answers ARP.
--
-- Frames are those of benches/src/frames.rs: from 02:00:00:00:00:01 to 02:10:00:n, UDP over IPv4 from 10.0.0.1 to 10.128.0.0 + n.

local traffic = {}

-- Pktgen's counters follow the device's once a second. Frames on their way have arrived by then, too.
local SETTLE_MS = 3000
-- Time for weftd to ask for the peer's MAC address, and to hear the answer.
local ARP_MS = 3000

local SENDER = { mac = "02:00:00:00:00:01", ip = "10.0.0.1" }
-- The remote VTEP, which Pktgen plays on the port at weft's uplink.
local PEER = { mac = "02:aa:00:00:00:02", ip = "192.168.50.2/24" }

local function mac(n)
    return string.format("02:10:00:%02x:%02x:%02x", n >> 16 & 255, n >> 8 & 255, n & 255)
end

local function ip(n)
    return string.format("10.%d.%d.%d", 128 | n >> 16, n >> 8 & 255, n & 255)
end

-- Answers ARP for the peer's VTEP address: without it weftd has no next hop, and sends nothing into tunnels.
local function answer_arp(pktgen, port)
    pktgen.set_mac(port, "src", PEER.mac)
    pktgen.set_ipaddr(port, "src", PEER.ip)
    pktgen.process(port, "on")
end

local function one_flow(pktgen, port, size)
    pktgen.set_range(port, "off")
    pktgen.set_mac(port, "src", SENDER.mac)
    pktgen.set_mac(port, "dst", mac(0))
    pktgen.set_ipaddr(port, "src", SENDER.ip .. "/8")
    pktgen.set_ipaddr(port, "dst", ip(0))
    pktgen.set_type(port, "ipv4")
    pktgen.set_proto(port, "udp")
    pktgen.set(port, "sport", 1000)
    pktgen.set(port, "dport", 2000)
    pktgen.set(port, "size", size)
end

-- Each frame goes to the next address, and from the last to the first.
local function many_flows(pktgen, port, size, macs)
    local function range(what, first, last, step)
        pktgen.range[what](port, "start", first)
        pktgen.range[what](port, "inc", step)
        pktgen.range[what](port, "min", first)
        pktgen.range[what](port, "max", last)
    end
    range("src_mac", SENDER.mac, SENDER.mac, "00:00:00:00:00:00")
    range("dst_mac", mac(0), mac(macs - 1), "00:00:00:00:00:01")
    range("src_ip", SENDER.ip, SENDER.ip, "0.0.0.0")
    range("dst_ip", ip(0), ip(macs - 1), "0.0.0.1")
    range("src_port", 1000, 1000, 0)
    range("dst_port", 2000, 2000, 0)
    range("pkt_size", size, size, 0)
    pktgen.range.ip_proto(port, "udp")
    pktgen.set_range(port, "on")
end

-- Sets up what is sent. size: of the frame with FCS; of no meaning for a pcap file, which Pktgen was started with (-s).
function traffic.setup(pktgen, s, size)
    local port = tostring(s.tx)
    pktgen.stop("all")
    if s.tx ~= s.uplink then
        answer_arp(pktgen, tostring(s.uplink))
    end
    if s.send == "pcap" then
        pktgen.pcap(port, "on")
    elseif s.macs == 1 then
        one_flow(pktgen, port, size)
    else
        many_flows(pktgen, port, size, s.macs)
    end
    -- Zero: until it is told to stop.
    pktgen.set(port, "count", 0)
    pktgen.delay(ARP_MS)
end

-- Frames that a port has sent and received since its counters were cleared.
local function counters(pktgen, port)
    -- Up to release 25, portStats takes a second argument and gives the counters themselves; since 26, one, and a table of tables.
    local ok, stats = pcall(pktgen.portStats, tostring(port), "port")
    if not ok then
        stats = pktgen.portStats(tostring(port))
    end
    local of_port = stats[port]
    if not of_port then
        error(string.format("Pktgen has no port %d: see its -m argument", port), 0)
    end
    return of_port.curr or of_port
end

-- Sends for some seconds at a rate in percent of the link's. Returns the frames sent and received.
function traffic.trial(pktgen, s, percent, seconds)
    local port = tostring(s.tx)
    pktgen.set(port, "rate", percent)
    pktgen.clr()
    pktgen.start(port)
    pktgen.delay(math.floor(seconds * 1000))
    pktgen.stop(port)
    pktgen.delay(SETTLE_MS)
    return counters(pktgen, s.tx).opackets, counters(pktgen, s.rx).ipackets
end

return traffic
