-- What to do, from the environment: every name here is explained in docs/benchmarking.md.

local settings = {}

local function number(getenv, name, default, least, most)
    local text = getenv(name)
    if not text or text == "" then return default end
    local n = tonumber(text)
    if not n or n < least or n > most then
        error(string.format("%s=%s: allowed are %s to %s", name, text, least, most), 0)
    end
    return n
end

local function whole(...)
    local n = number(...)
    local as_integer = math.tointeger(n)
    if not as_integer then error(select(2, ...) .. ": a whole number is needed", 0) end
    return as_integer
end

-- Shortest frame, and the longest inner one that fits an underlay of 1,514 bytes with 50 of outer headers. With FCS.
local SHORTEST, LONGEST = 64, 1518

local function sizes(text)
    local list = {}
    for word in text:gmatch("[^,]+") do
        local n = math.tointeger(tonumber(word))
        if not n or n < SHORTEST or n > LONGEST then
            error(string.format("WEFT_SIZES: '%s' is no length from %d to %d", word, SHORTEST, LONGEST), 0)
        end
        list[#list + 1] = n
    end
    if #list == 0 then error("WEFT_SIZES names no length", 0) end
    return list
end

-- getenv: os.getenv, or a test's.
function settings.read(getenv)
    local send = getenv("WEFT_SEND") or "plain"
    if send ~= "plain" and send ~= "pcap" then
        error("WEFT_SEND=" .. send .. ": allowed are plain and pcap", 0)
    end
    return {
        send = send,
        tx = whole(getenv, "WEFT_TX", 0, 0, 31),
        rx = whole(getenv, "WEFT_RX", 1, 0, 31),
        uplink = whole(getenv, "WEFT_UPLINK", 1, 0, 31),
        macs = whole(getenv, "WEFT_MACS", 1, 1, 1 << 22),
        sizes = sizes(getenv("WEFT_SIZES") or "64,128,256,512,1024,1280,1468"),
        seconds = number(getenv, "WEFT_SECONDS", 10, 0.1, 3600),
        confirm = number(getenv, "WEFT_CONFIRM", 60, 0.1, 3600),
        highest = number(getenv, "WEFT_HIGHEST", 100, 0.01, 100),
        resolution = number(getenv, "WEFT_RESOLUTION", 0.5, 0.01, 50),
        loss = number(getenv, "WEFT_LOSS_PERCENT", 0, 0, 50) / 100,
        results = getenv("WEFT_RESULTS") or "pktgen-results.txt",
    }
end

return settings
