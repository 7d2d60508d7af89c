-- Removes a finished job and the records of its pictures, whose objects are gone already. Its id, and theirs, are
-- remembered as gone for a while.
--
-- ARGV[1]  job id
-- ARGV[2]  seconds for which they are remembered
-- ARGV[3…] ids of its pictures
--
-- Answers 1, or 0 where the job is unknown or not finished.

local job = read_job(ARGV[1])
if not job or next(TRANSITIONS[job.status]) then
  redis.call('ZREM', key('retained'), ARGV[1])
  return 0
end
local function remember(id)
  redis.call('SET', key('gone', id), job.account, 'EX', ARGV[2])
end
for at = 3, #ARGV do
  redis.call('DEL', key('image', ARGV[at]))
  redis.call('ZREM', key('images', job.account), ARGV[at])
  redis.call('SREM', key('published'), ARGV[at])
  remember(ARGV[at])
end
redis.call('DEL', key('job', job.id), key('spec', job.id), key('result', job.id), key('events', job.id))
redis.call('ZREM', key('jobs', job.account, job.status), job.id)
redis.call('ZREM', key('retained'), job.id)
remember(job.id)
return 1
