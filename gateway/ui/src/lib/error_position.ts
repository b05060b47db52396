// What the server's complaint about a query says, and where in the query it points to.

export interface PositionedError {
  /** Character offset into the query, within [0, length]. */
  readonly offset: number;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

// `1:16: parse error: …`, also behind a lead such as `invalid parameter "query": `.
const POSITION = /(?:^|[^\d:])(\d+):(\d+): (parse error: .*)$/s;

/** Lines and columns count from 1; Prometheus counts columns in bytes, the editor in UTF-16 units. */
export function positionOfError(query: string, errorText: string): PositionedError | null {
  const match = POSITION.exec(errorText);
  if (match === null) return null;
  const line = Number(match[1]);
  const byteColumn = Number(match[2]);
  const lines = query.split('\n');
  const text = lines[line - 1];
  if (text === undefined || byteColumn < 1) return null;
  const column = charactersOfBytes(text, byteColumn - 1);
  const before = lines.slice(0, line - 1).reduce((sum, previous) => sum + previous.length + 1, 0);
  return { offset: before + column, line, column: column + 1, message: match[3] ?? errorText };
}

const NO_GRAPH = /^invalid expression type "([^"]+)" for range query/;

/** The server's complaint about a query, for a reader who has that query in front of him. */
export function explainError(errorText: string): string {
  const text = errorText.replace(/^invalid parameter "query": /, '');
  const type = NO_GRAPH.exec(text)?.[1];
  return type === undefined ? text : `The result is a ${type}, which has no graph. The table shows it; a graph takes an instant vector or a scalar.`;
}

function charactersOfBytes(text: string, bytes: number): number {
  let characters = 0;
  let left = bytes;
  for (const character of text) {
    const width = new TextEncoder().encode(character).length;
    if (left < width) break;
    left -= width;
    characters += character.length;
  }
  return characters;
}
