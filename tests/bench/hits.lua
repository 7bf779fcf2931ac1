-- Send page hits with wrk, in the order of the file named after `--`. Each line: user agent, site, address, body.
local requests, at = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    local user_agent, site, address, body = line:match("([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)")
    requests[#requests + 1] = wrk.format("POST", "/api/v1/page_hit?name=analytics_events", {
      ["Host"] = "blog.example", ["Content-Type"] = "application/json", ["x-site-uuid"] = site,
      ["User-Agent"] = user_agent, ["X-Forwarded-For"] = address, ["Origin"] = "https://blog.example",
      ["Referer"] = "https://blog.example/", ["Accept"] = "*/*", ["Accept-Language"] = "en-US,en;q=0.9",
    }, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"hits": %d, "seconds": %f, "p50": %f, "p99": %f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
