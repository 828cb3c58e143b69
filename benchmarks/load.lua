-- What wrk sends: the lines of a file, one after the other, and what it tells at the end.
-- Arguments: path of the requests, file of bodies (wrk's threads take turns in it), mean pause in milliseconds (0: none),
-- 1 to count the answers by status.
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  path, file, pause, counting = args[1], args[2], tonumber(args[3]), args[4] == "1"
  statuses = ""
  counts = {}
  math.randomseed(7 + number)
  lines = io.open(file)
  -- Each thread begins somewhere else.
  local size = lines:seek("end")
  lines:seek("set", math.floor(size * number / 4))
  if number > 0 then lines:read("*l") end
  if not counting then response = nil end
end

function request()
  local body = lines:read("*l")
  if body == nil then
    lines:seek("set", 0)
    body = lines:read("*l")
  end
  return wrk.format("POST", path, {["Content-Type"] = "application/json"}, body)
end

function delay()
  if pause == 0 then return 0 end
  return math.floor(-math.log(1 - math.random()) * pause + 0.5)
end

function response(status, headers, body)
  counts[status] = (counts[status] or 0) + 1
  statuses = ""
  for one, n in pairs(counts) do statuses = statuses .. one .. ":" .. n .. " " end
end

function done(summary, latency, requests)
  local told = {}
  for _, thread in ipairs(threads) do table.insert(told, thread:get("statuses")) end
  io.write(string.format(
    "\n@ %d %d %.1f %.1f %.1f %d %d %s\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency:percentile(99.9), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    table.concat(told, " ")))
end
