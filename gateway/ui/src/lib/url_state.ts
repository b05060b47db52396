// Everything that makes a view shareable, written to and read from the page's query string.
// Reading never fails: whatever is missing or malformed falls back to its default.

import { formatDuration, parseDuration } from './duration';
import { DEFAULT_RANGE, type TimeRange } from './time_range';

export const QUERIES_MAX = 8;
export const REFRESH_SECONDS: readonly number[] = [0, 2, 5, 15, 60];

export type ViewName = 'graph' | 'table';

export interface QueryState {
  readonly expr: string;
  readonly enabled: boolean;
}

export interface PageState {
  readonly queries: readonly QueryState[];
  readonly range: TimeRange;
  /** Seconds; null lets the page choose. */
  readonly step: number | null;
  /** Seconds between live refreshes; 0 is off. */
  readonly refresh: number;
  readonly view: ViewName;
}

export const DEFAULT_STATE: PageState = {
  queries: [{ expr: '', enabled: true }],
  range: DEFAULT_RANGE,
  step: null,
  refresh: 0,
  view: 'graph',
};

export function encodeState(state: PageState): string {
  const parameters = new URLSearchParams();
  const used = state.queries.filter((query) => query.expr.trim() !== '');
  for (const query of used) parameters.append(query.enabled ? 'q' : 'qoff', query.expr);
  if (state.range.kind === 'absolute') {
    parameters.set('from', String(state.range.from));
    parameters.set('to', String(state.range.to));
  } else if (state.range.seconds !== (DEFAULT_RANGE.kind === 'relative' ? DEFAULT_RANGE.seconds : 0)) {
    parameters.set('range', formatDuration(state.range.seconds));
  }
  if (state.step !== null) parameters.set('step', formatDuration(state.step));
  if (state.refresh !== 0) parameters.set('refresh', String(state.refresh));
  if (state.view !== 'graph') parameters.set('view', state.view);
  const text = parameters.toString();
  return text === '' ? '' : `?${text}`;
}

export function decodeState(search: string): PageState {
  const parameters = new URLSearchParams(search);
  const queries: QueryState[] = [];
  for (const [key, value] of parameters) {
    if ((key === 'q' || key === 'qoff') && value.trim() !== '' && queries.length < QUERIES_MAX) {
      queries.push({ expr: value, enabled: key === 'q' });
    }
  }
  const refresh = Number(parameters.get('refresh') ?? 0);
  return {
    queries: queries.length > 0 ? queries : DEFAULT_STATE.queries,
    range: decodeRange(parameters),
    step: parseDuration(parameters.get('step') ?? ''),
    refresh: REFRESH_SECONDS.includes(refresh) ? refresh : 0,
    view: parameters.get('view') === 'table' ? 'table' : 'graph',
  };
}

function decodeRange(parameters: URLSearchParams): TimeRange {
  const from = parameters.get('from');
  const to = parameters.get('to');
  if (from !== null && to !== null) {
    const range = { kind: 'absolute', from: Number(from), to: Number(to) } as const;
    if (from !== '' && to !== '' && Number.isFinite(range.from) && Number.isFinite(range.to) && range.from < range.to) {
      return range;
    }
  }
  const seconds = parseDuration(parameters.get('range') ?? '');
  return seconds === null ? DEFAULT_RANGE : { kind: 'relative', seconds };
}
