// Events and latencies by the second.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SECONDS, Series } from '../series.js';

test('each second has its events, its median and its worst', () => {
  const series = new Series();
  for (const latency of [5, 1, 3, 90]) series.add(10_500, latency);
  series.add(11_999, null);
  const points = series.points(12_000, 3);
  assert.deepEqual(points.map((point) => [point.second, point.count, point.median, point.worst]), [[9, 0, null, null], [10, 4, 3, 90], [11, 1, null, null]]);
});

test('what is older than the plot is forgotten, and a pause is empty', () => {
  const series = new Series();
  series.add(1_000, 1);
  series.add(1_000 * (SECONDS + 2), 1);
  const points = series.points(1_000 * (SECONDS + 3));
  assert.equal(points.length, SECONDS);
  assert.equal(points.reduce((sum, point) => sum + point.count, 0), 1);
});

test('a storm costs no more memory than a breeze', () => {
  const series = new Series();
  for (let n = 0; n < 100_000; n += 1) series.add(5_000, n);
  assert.equal(series.points(6_000, 1)[0].count, 100_000);
  assert.equal(series.points(6_000, 1)[0].worst, 99_999);
  assert.ok(series.bins.every((bin) => bin.latencies.length <= 256));
});
