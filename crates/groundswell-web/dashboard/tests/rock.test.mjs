// Waves washed onto rocks as the node does it, and the state of the path that is looked at.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fold, PathState, SHOWN_WAVES } from '../rock.js';
import { parseEvent } from '../stream.js';

const state = (lake) => new PathState({ kind: 'publication', agent: 'main', path: '/p', lake });
const update = (aeon, more) => ({ type: 'update', aeon, live: true, stale: false, cursor: `e:${aeon}`, ...more });

test('a log grows by its wave, a sum by its own', () => {
  assert.deepEqual(fold('log', ['a'], 'b'), ['a', 'b']);
  assert.equal(fold('sum', 5, -7), -2);
});

test('a sum beyond the numbers of a page stays exact', () => {
  assert.equal(String(parseEvent('{"type":"update","aeon":1,"rock":9223372036854775807,"live":true}').rock), '9223372036854775807');
  assert.equal(parseEvent('{"type":"update","wave":"\\"rock\\":12345678901234567,"}').wave, '"rock":12345678901234567,', 'a line that looks like one is left alone');
});

test('every operation of a JSON Patch', () => {
  const of = (document, ...operations) => fold('json', structuredClone(document), operations);
  assert.deepEqual(of({ a: [1] }, { op: 'add', path: '/a/-', value: 2 }, { op: 'add', path: '/a/0', value: 0 }), { a: [0, 1, 2] });
  assert.deepEqual(of({ a: 1 }, { op: 'replace', path: '/a', value: null }), { a: null });
  assert.deepEqual(of({ a: [1, 2] }, { op: 'replace', path: '/a/0', value: 9 }), { a: [9, 2] });
  assert.deepEqual(of({ 'a/b': { '~': 1 } }, { op: 'remove', path: '/a~1b/~0' }), { 'a/b': {} });
  assert.deepEqual(of({ a: { b: 1 } }, { op: 'move', from: '/a/b', path: '/c' }), { a: {}, c: 1 });
  assert.deepEqual(of({ a: { b: 1 } }, { op: 'copy', from: '/a', path: '/c' }, { op: 'replace', path: '/c/b', value: 2 }), { a: { b: 1 }, c: { b: 2 } });
  assert.deepEqual(of(null, { op: 'add', path: '', value: { a: 1 } }, { op: 'test', path: '/a', value: 1 }), { a: 1 });
  assert.throws(() => of({}, { op: 'replace', path: '/a', value: 1 }));
  assert.throws(() => of({ a: 1 }, { op: 'add', path: '/a/b', value: 1 }));
});

test('a member that is called __proto__ is a member, and nothing else', () => {
  const document = fold('json', {}, [{ op: 'add', path: '/__proto__', value: { polluted: true } }]);
  assert.ok(Object.hasOwn(document, '__proto__'));
  assert.equal({}.polluted, undefined);
  assert.equal(Object.getPrototypeOf(document), Object.prototype);
});

test('a path follows its waves from the rock on', () => {
  const path = state('log');
  path.apply(update(2, { rock: ['a', 'b'], live: false }), 0);
  path.apply(update(3, { wave: 'c' }), 1);
  assert.deepEqual([path.rock, path.aeon, path.rockAeon], [['a', 'b', 'c'], 3, 3]);
  path.apply(update(9, { rock: ['z'] }), 2);
  assert.deepEqual([path.rock, path.aeon, path.waves.length], [['z'], 9, 0]);
});

test('waves that come before any rock wait for the one of caught_up', () => {
  const path = state('sum');
  for (let aeon = 1; aeon <= 30; aeon += 1) path.apply(update(aeon, { wave: 1, live: false }), 0);
  assert.equal(path.rock, undefined);
  path.apply({ type: 'caught_up', aeon: 30, rock: 30 }, 0);
  assert.deepEqual([path.rock, path.waves.length, path.waves[0].aeon, path.needsRead], [30, SHOWN_WAVES, 30, false]);
});

test('a lake that is not known here has its rock read, and an old answer does not undo a newer rock', () => {
  const path = state('orders');
  path.apply(update(1, { rock: { n: 1 } }), 0);
  path.apply({ type: 'caught_up', aeon: 1 }, 0);
  assert.equal(path.needsRead, false);
  path.apply(update(2, { wave: 'whatever' }), 0);
  assert.equal(path.needsRead, true);
  path.read({ lake: 'orders', aeon: 2, rock: { n: 2 } });
  assert.deepEqual([path.rock, path.needsRead], [{ n: 2 }, false]);
  path.read({ lake: 'orders', aeon: 1, rock: { n: 1 } });
  assert.deepEqual(path.rock, { n: 2 });
});

test('a wave that does not follow the rock is not washed onto it', () => {
  const path = state('sum');
  path.apply(update(3, { rock: 30 }), 0);
  path.apply({ type: 'caught_up', aeon: 3, rock: 30 }, 0);
  path.apply(update(5, { wave: 7 }), 0);
  assert.deepEqual([path.rock, path.rockAeon, path.aeon, path.needsRead], [30, 3, 5, true]);
});

test('not available, killed and begun again', () => {
  const path = state('log');
  path.apply({ type: 'not_available' }, 0);
  assert.deepEqual([path.word, path.stale], ['not_available', true]);
  path.apply(update(1, { rock: ['a'] }), 0);
  assert.deepEqual([path.word, path.stale], [null, false]);
  path.apply({ type: 'killed' }, 0);
  assert.deepEqual([path.word, path.stale, path.rock], ['killed', true, ['a']]);
});
