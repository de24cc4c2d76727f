// What the page says in words of what a node says in figures.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delivery, readersWords } from '../words.js';

test('readers are behind when they lack more than has come within a second', () => {
  const of = (reader_lag, waves_per_second) => readersWords({ readers: 3, reader_lag, waves_per_second });
  assert.equal(of(0, null), '3');
  assert.equal(of(0, 20), '3');
  assert.equal(of(20, 20), '3', 'those are on their way');
  assert.match(of(1200, 20), /^3, 1.?200 behind$/);
  assert.equal(of(2, 0), '3, 2 behind');
});

test('what is on its way for long is told with how long', () => {
  assert.equal(delivery({ undelivered_since_ms: null }, 10_000), '');
  assert.equal(delivery({ undelivered_since_ms: 4_000 }, 10_000), '! not delivered: what was written here 6 s ago');
});
