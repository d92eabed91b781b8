"""What Redis does as one step: Lua scripts over a bucket's hash (values) and sorted set (order).

KEYS are the hash and the sorted set. At most 7,999 values go through one `unpack`. The hash of a table that is
there has a field with an empty name, which no key has: without it the namespace has been deleted.
"""

from __future__ import annotations

from typing import Final

MARK: Final = b""
GONE: Final = "NOTABLE"

_CHECK: Final = f"""
if redis.call('HEXISTS', KEYS[1], '') == 0 then return redis.error_reply('{GONE}') end
"""

# The keys that are there already need no place in the order.
PUT: Final = (
    _CHECK
    + """
local new = redis.call('HSET', KEYS[1], unpack(ARGV))
if new > 0 then
  local order = {}
  for i = 1, #ARGV, 2 do order[i] = 0; order[i + 1] = ARGV[i] end
  redis.call('ZADD', KEYS[2], unpack(order))
end
return new
"""
)

DELETE: Final = (
    _CHECK
    + """
redis.call('HDEL', KEYS[1], unpack(ARGV))
return redis.call('ZREM', KEYS[2], unpack(ARGV))
"""
)

# ARGV: the command, one end, the other, how many, and whether values are wanted.
PAGE: Final = (
    _CHECK
    + """
local keys = redis.call(ARGV[1], KEYS[2], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
if #keys == 0 or ARGV[5] == '0' then return {keys, {}} end
return {keys, redis.call('HMGET', KEYS[1], unpack(keys))}
"""
)

DELETE_RANGE: Final = (
    _CHECK
    + """
local keys = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, 5000)
if #keys > 0 then
  redis.call('HDEL', KEYS[1], unpack(keys))
  redis.call('ZREM', KEYS[2], unpack(keys))
end
return #keys
"""
)

POP: Final = (
    _CHECK
    + """
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return value
"""
)

# ARGV: the key, '1' and the expected value or '0' and nothing, '1' and the new value or '0' and nothing.
COMPARE_AND_SET: Final = (
    _CHECK
    + """
local value = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '0' then
  if value then return 0 end
elseif value ~= ARGV[3] then
  return 0
end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1
"""
)

# As text: a number of Lua has 53 bits.
INCREMENT: Final = (
    _CHECK
    + """
redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return redis.call('HGET', KEYS[1], ARGV[1])
"""
)

CLEAR: Final = (
    _CHECK
    + """
redis.call('UNLINK', KEYS[1], KEYS[2])
return redis.call('HSET', KEYS[1], '', '')
"""
)

COUNT: Final = (
    _CHECK
    + """
return redis.call('ZLEXCOUNT', KEYS[2], ARGV[1], ARGV[2])
"""
)
