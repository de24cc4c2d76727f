// Writes src/openapi.ts, the types of the HTTP interface, from its OpenAPI document: `npm run generate`.

import { readFile, writeFile } from 'node:fs/promises';

import openapiTS, { astToString } from 'openapi-typescript';

const DOCUMENT = new URL('../../../crates/groundswell-web/openapi.json', import.meta.url);
export const TARGET = new URL('../src/openapi.ts', import.meta.url);

/**
 * A discriminator without a mapping means the names of the schemas, and not the constants in them that are meant.
 * @param {any} document
 */
function addMapping(document) {
  const { schemas } = document.components;
  const parts = (schema) => schema.allOf?.flatMap(parts) ?? [schema];
  const constantOf = (schema, name) => parts(schema).map((part) => part.properties?.[name]?.const).find(Boolean);
  for (const schema of Object.values(schemas)) {
    if (!schema.discriminator || schema.discriminator.mapping) continue;
    const { propertyName } = schema.discriminator;
    const named = schema.oneOf.map(({ $ref }) => [constantOf(schemas[$ref.split('/').at(-1)], propertyName), $ref]);
    schema.discriminator.mapping = Object.fromEntries(named);
  }
}

/**
 * Which members have to be there together is checked by who reads JSON, and is nothing that these types say.
 * @param {any} schema
 */
function dropPresence(schema) {
  if (schema === null || typeof schema !== 'object') return;
  const onlyPresence = (part) => Object.entries(part).every(([name, value]) => name === 'required' || (['oneOf', 'allOf'].includes(name) && value.every(onlyPresence)));
  for (const name of ['oneOf', 'allOf']) if (Array.isArray(schema[name]) && schema[name].every(onlyPresence)) delete schema[name];
  if (schema.not && onlyPresence(schema.not)) delete schema.not;
  Object.values(schema).forEach(dropPresence);
}

/** @returns {Promise<string>} What the file has to say. */
export async function generated() {
  const document = JSON.parse(await readFile(DOCUMENT, 'utf8'));
  dropPresence(document);
  addMapping(document);
  const types = astToString(await openapiTS(document));
  return `// Made by \`npm run generate\` from crates/groundswell-web/openapi.json. Do not change it by hand.\n\n${types}`;
}

if (process.argv[1] === new URL(import.meta.url).pathname) await writeFile(TARGET, await generated());
