-- Decides over several budgets at once: all of them have room, or nothing is
-- taken. KEYS are the budgets; ARGV has four numbers for each: cost, size,
-- emission in nanoseconds (of a rate), period (0: a rate, 1: a day, 2: a month).
-- Returns whether the call is admitted (1 or 0), then four integers a budget: ok,
-- remaining, reset and retry in nanoseconds.
--
-- A rate keeps its theoretical arrival time (GCRA) as "seconds nanoseconds": as one
-- number, nanoseconds would not fit the 53 bits of Lua's. A quota keeps
-- "start count", the start of its period in seconds.
local time = redis.call('TIME')
local sec, nano = tonumber(time[1]), tonumber(time[2]) * 1000

-- Bounds every time, as in memory: 36 years.
local WINDOW = 2 ^ 60

-- A time to live in milliseconds.
local function ttl(ns) return math.max(math.ceil(ns / 1e6), 1) end

-- The period that now is in: its start and its end in seconds.
local function period(kind)
  local day = math.floor(sec / 86400)
  if kind == 1 then return day * 86400, (day + 1) * 86400 end
  -- From days to a date, after Howard Hinnant's civil_from_days: years begin in
  -- March, so that a leap day is the last.
  local z = day + 719468
  local doe = z % 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local dom = doy - math.floor((153 * mp + 2) / 5)
  local first = day - dom
  local length = ({31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28})[mp + 1]
  if mp == 11 then
    local year = yoe + math.floor(z / 146097) * 400 + 1
    if year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) then length = 29 end
  end
  return first * 86400, (first + length) * 86400
end

local admitted, sets, answers = 1, {}, {}

-- What is stored for a key, seen through what this decision is about to set.
local function stored(key)
  local value = sets[key] and sets[key][1] or redis.call('GET', key)
  if not value then return nil end
  local a, b = string.match(value, '^(%d+) (%d+)$')
  if not a then error('not a budget: ' .. key) end
  return tonumber(a), tonumber(b)
end

local function pair(a, b) return string.format('%.0f %.0f', a, b) end

local function rate(key, cost, size, emission)
  local full, ahead = math.min(size * emission, WINDOW), 0
  local price = math.min(cost * emission, WINDOW)
  local s, n = stored(key)
  -- Never further ahead than an empty budget is: a clock that was set back, or a
  -- limit that was made smaller, must not lock anyone out for longer.
  if s then ahead = math.min(math.max((s - sec) * 1e9 + (n - nano), 0), full) end
  local after = ahead + price
  local function left(debt) return math.min(math.floor((full - debt) / emission), size) end
  if cost <= size and after <= full then
    local at = nano + after
    local carry = math.floor(at / 1e9)
    sets[key] = {pair(sec + carry, at - carry * 1e9), ttl(after)}
    return 1, left(after), after, 0, left(ahead), ahead
  end
  local retry = -1
  if cost <= size then retry = after - full end
  return 0, left(ahead), ahead, retry
end

local function quota(key, cost, size, kind)
  local start, stop = period(kind)
  local s, used = stored(key)
  if s ~= start then used = 0 end
  local left = (stop - sec) * 1e9 - nano
  if used + cost <= size then
    sets[key] = {pair(start, used + cost), ttl(left)}
    return 1, size - used - cost, left, 0, size - used, left
  end
  local retry = -1
  if cost <= size then retry = left end
  return 0, math.max(size - used, 0), left, retry
end

for i, key in ipairs(KEYS) do
  local cost, size = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local emission, kind = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  if kind == 0 then
    answers[i] = {rate(key, cost, size, emission)}
  else
    answers[i] = {quota(key, cost, size, kind)}
  end
  if answers[i][1] == 0 then admitted = 0 end
end

local reply = {admitted}
for _, a in ipairs(answers) do
  local remaining, reset = a[2], a[3]
  -- Nothing is taken: what has room stands as it did before.
  if admitted == 0 and a[1] == 1 then remaining, reset = a[5], a[6] end
  reply[#reply + 1] = a[1]
  reply[#reply + 1] = remaining
  reply[#reply + 1] = reset
  reply[#reply + 1] = a[4]
end
if admitted == 1 then
  for key, set in pairs(sets) do
    redis.call('SET', key, set[1], 'PX', string.format('%.0f', set[2]))
  end
end
return reply
