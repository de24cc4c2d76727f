// The colours by which an eye finds a node again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hueOf } from '../dom.js';

test('each node keeps its hue, which is no red and no green, and a dozen of them are told apart', () => {
  const ids = Array.from({ length: 12 }, (_, at) => `${at}`.repeat(10));
  const hues = ids.map(hueOf);
  assert.deepEqual(ids.map(hueOf), hues);
  for (const [at, hue] of hues.entries()) {
    assert.ok(hue >= 25 && hue <= 330 && !(hue > 75 && hue < 170), `${hue}`);
    for (const other of hues.slice(at + 1)) {
      const apart = Math.abs(hue - other);
      assert.ok(Math.min(apart, 360 - apart) >= 11, `${hue} and ${other}`);
    }
  }
});
