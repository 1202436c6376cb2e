"""What must happen on the server in one step, as Lua. Only commands that Redis 7.0 and Valkey 9 both have."""

# KEYS: stream [, epoch hash]; ARGV: id, oldest ID to keep or "", ms to keep or "", kind, epoch (both empty without a
# fence), fields... A full server refuses XADD before it trims, so a refused one trims for the next try; and a stream
# that nobody writes any more vanishes as its entries would have.
PUBLISH = """
if #KEYS == 2 and redis.call('HGET', KEYS[2], ARGV[4]) ~= ARGV[5] then return redis.error_reply('FENCED') end
local fields = {}
for i = 6, #ARGV do fields[#fields + 1] = ARGV[i] end
local added
if ARGV[2] == '' then added = redis.pcall('XADD', KEYS[1], ARGV[1], unpack(fields))
else added = redis.pcall('XADD', KEYS[1], 'MINID', '~', ARGV[2], ARGV[1], unpack(fields)) end
if type(added) ~= 'table' then
  if ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
  return 1
end
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 1 then return 0 end
if ARGV[2] ~= '' then redis.pcall('XTRIM', KEYS[1], 'MINID', '~', ARGV[2]) end
return added
"""

# KEYS: epoch hash; ARGV: kind. Never below the server's clock: an epoch hash that was lost with a server that keeps
# nothing must not make an old fence valid again.
RAISE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = math.max((tonumber(redis.call('HGET', KEYS[1], ARGV[1])) or 0) + 1, now)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', epoch))
return epoch
"""

# KEYS: work stream; ARGV: group, worker, idle ms. Not XAUTOCLAIM: with COUNT 1 it looks at ten pending entries only, so
# ten healthy leases would hide every dead one behind them.
TAKE_OVER = """
local idle = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)
if not idle[1] then return {} end
return redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], idle[1][1])
"""

# KEYS: work stream; ARGV: group, worker, entry ids... Renews only what is still the worker's: without the check a
# worker that was frozen would steal its sessions back from their new owner.
BEAT = """
local mine = {}
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    mine[#mine + 1] = ARGV[i]
  end
end
return mine
"""

# KEYS: work stream; ARGV: group, worker, entry id, idle ms to pretend
HAND_OVER = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if not pending[1] or pending[1][2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'JUSTID')
return 1
"""

# KEYS: work stream; ARGV: group, worker, entry id
RETIRE = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if not pending[1] or pending[1][2] ~= ARGV[2] then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
return 1
"""
