-- For each key: its type, a digest of its value, its time to live. The digest does not depend on
-- how the server stores the value, so that servers of different versions give the same: elements
-- in order where the type has one, else a sum over the elements.
local function word(value)
  return #value .. ':' .. value
end

local function score(text)
  return string.format('%.17g', tonumber(text))
end

-- Two sums of 48 bits each: exact in a double.
local function sum(elements, step)
  local a, b, modulus = 0, 0, 281474976710656
  for i = 1, #elements, step do
    local element = word(elements[i])
    if step == 2 then element = element .. word(elements[i + 1]) end
    local hash = redis.sha1hex(element)
    a = (a + tonumber(string.sub(hash, 1, 12), 16)) % modulus
    b = (b + tonumber(string.sub(hash, 13, 24), 16)) % modulus
  end
  return string.format('%d/%.0f/%.0f', #elements / step, a, b)
end

-- A HyperLogLog keeps its last count inside: asking for it changes the bytes, not the value.
local function text(value)
  if string.sub(value, 1, 4) ~= 'HYLL' then return value end
  return string.sub(value, 1, 8) .. string.sub(value, 17)
end

local function digest(kind, key)
  if kind == 'string' then return redis.sha1hex(text(redis.call('GET', key))) end
  if kind == 'set' then return sum(redis.call('SMEMBERS', key), 1) end
  if kind == 'hash' then return sum(redis.call('HGETALL', key), 2) end
  local parts = {}
  if kind == 'list' then
    for i, element in ipairs(redis.call('LRANGE', key, 0, -1)) do parts[i] = word(element) end
  elseif kind == 'zset' then
    local pairs = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #pairs, 2 do parts[#parts + 1] = word(pairs[i]) .. word(score(pairs[i + 1])) end
  elseif kind == 'stream' then
    for i, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
      parts[#parts + 1] = word(entry[1])
      for _, field in ipairs(entry[2]) do parts[#parts + 1] = word(field) end
    end
  else
    return ''
  end
  return redis.sha1hex(table.concat(parts))
end

local answers = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  answers[i] = {kind, kind == 'none' and '' or digest(kind, key), redis.call('PTTL', key)}
end
return answers
