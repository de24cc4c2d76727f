// What the page says in words of what a node says in figures.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readersWords } from '../words.js';

test('readers are behind when they lack more than has come within a second', () => {
  const of = (reader_lag, waves_per_second) => readersWords({ readers: 3, reader_lag, waves_per_second });
  assert.equal(of(0, null), '3');
  assert.equal(of(0, 20), '3');
  assert.equal(of(20, 20), '3', 'those are on their way');
  assert.match(of(1200, 20), /^3, 1.?200 behind$/);
  assert.equal(of(2, 0), '3, 2 behind');
});
