// The checked-in types are those of the OpenAPI document.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { generated, TARGET } from '../scripts/generate.mjs';

test('src/openapi.ts is what `npm run generate` makes of openapi.json', async () => {
  assert.equal(await readFile(TARGET, 'utf8'), await generated());
});

test('the lock file names no registry but npm’s own', async () => {
  const lock = JSON.parse(await readFile(new URL('../package-lock.json', import.meta.url), 'utf8'));
  const addresses = Object.values(lock.packages).flatMap(({ resolved }) => resolved ?? []);
  assert.deepEqual(addresses.filter((address) => !address.startsWith('https://registry.npmjs.org/')), []);
});
