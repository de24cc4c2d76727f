// What users of the client import.

export { Groundswell, type Options, type WriteOptions } from './client.js';
export { GroundswellError } from './error.js';
export { type Bytes, type KvEntry, type KvEvent } from './event.js';
export { type KvFilter } from './filter.js';
export { type FollowOptions, type Status } from './follow.js';
export type { components, operations, paths } from './openapi.js';
