// A backend of Etsy's statsd: what it aggregated since the last flush, as one line of JSON on standard
// output. Written at once: statsd flushes a last time while it exits, when nothing else is still done.
'use strict';

const fs = require('fs');

exports.init = function (startupTime, config, events) {
  events.on('flush', function (timestamp, metrics) {
    const seen = { counters: metrics.counters, gauges: metrics.gauges };
    fs.writeSync(1, JSON.stringify(seen) + '\n');
  });
  return true;
};
