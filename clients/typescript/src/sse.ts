// Server-sent events out of a stream of bytes, pulled: nothing is read before somebody asks for it.

/** One event. */
export interface Message {
  readonly data: string;
  /** The last id so far; empty before the first. */
  readonly id: string;
}

/** The most characters of one event: a value of 1 MiB as base64, and room. More is no event of ours. */
const LONGEST = 4 * 1024 * 1024;

/** Takes text in pieces, gives whole events. */
export class Parser {
  private rest = '';
  private data: string[] = [];
  private id = '';

  /** The events that this piece completes. */
  push(piece: string): Message[] {
    const messages: Message[] = [];
    this.rest += piece;
    let begin = 0;
    for (;;) {
      const end = this.rest.indexOf('\n', begin);
      if (end < 0) break;
      const line = this.rest.slice(begin, this.rest[end - 1] === '\r' ? end - 1 : end);
      begin = end + 1;
      const message = this.line(line);
      if (message) messages.push(message);
    }
    this.rest = this.rest.slice(begin);
    if (this.rest.length > LONGEST) throw new Error('an event is longer than any event of a node');
    return messages;
  }

  private line(line: string): Message | null {
    if (line === '') {
      const { data, id } = this;
      this.data = [];
      return data.length > 0 ? { data: data.join('\n'), id } : null;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'data') this.data.push(value);
    if (field === 'id' && !value.includes('\0')) this.id = value;
    return null;
  }
}
