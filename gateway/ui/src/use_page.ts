// The state of the page that its URL carries, kept in step with the browser's history.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { TimeRange } from './lib/time_range';
import { decodeState, encodeState, QUERIES_MAX, type PageState, type ViewName } from './lib/url_state';

export interface Row {
  readonly id: number;
  /** What was run last; the editor may hold something newer. */
  readonly expr: string;
  readonly enabled: boolean;
}

export interface Page {
  readonly rows: readonly Row[];
  readonly range: TimeRange;
  readonly step: number | null;
  readonly refresh: number;
  readonly view: ViewName;
  /** Grows with every wish to run, so that an unchanged query runs again. */
  readonly runs: number;
  readonly run: (textOf: (row: Row) => string) => void;
  readonly addRow: () => number;
  readonly removeRow: (id: number) => void;
  readonly toggleRow: (id: number) => void;
  readonly setRange: (range: TimeRange) => void;
  readonly setStep: (step: number | null) => void;
  readonly setRefresh: (seconds: number) => void;
  readonly setView: (view: ViewName) => void;
}

interface State extends Omit<PageState, 'queries'> {
  readonly rows: readonly Row[];
  readonly nextId: number;
  readonly runs: number;
}

export function usePage(): Page {
  const [state, setState] = useState<State>(() => fromUrl(null));
  const first = useRef(true);

  useEffect(() => {
    const search = encodeState({ ...state, queries: state.rows });
    if (search !== location.search) {
      const url = `${location.pathname}${search}`;
      if (first.current) history.replaceState(null, '', url);
      else history.pushState(null, '', url);
    }
    first.current = false;
    const query = state.rows.find((row) => row.expr.trim() !== '')?.expr;
    document.title = query === undefined ? 'Millstream' : `${query.slice(0, 60)} · Millstream`;
  }, [state]);

  useEffect(() => {
    const restore = (): void => setState((before) => fromUrl(before));
    addEventListener('popstate', restore);
    return () => removeEventListener('popstate', restore);
  }, []);

  return useMemo<Page>(
    () => ({
      ...state,
      run: (textOf) =>
        setState((before) => ({ ...before, rows: before.rows.map((row) => ({ ...row, expr: textOf(row) })), runs: before.runs + 1 })),
      addRow: () => {
        const id = state.nextId;
        setState((before) =>
          before.rows.length >= QUERIES_MAX
            ? before
            : { ...before, rows: [...before.rows, { id: before.nextId, expr: '', enabled: true }], nextId: before.nextId + 1 },
        );
        return id;
      },
      removeRow: (id) => setState((before) => ({ ...before, rows: before.rows.filter((row) => row.id !== id) })),
      toggleRow: (id) =>
        setState((before) => ({ ...before, rows: before.rows.map((row) => (row.id === id ? { ...row, enabled: !row.enabled } : row)) })),
      setRange: (range) => setState((before) => ({ ...before, range })),
      setStep: (step) => setState((before) => ({ ...before, step })),
      setRefresh: (refresh) => setState((before) => ({ ...before, refresh })),
      setView: (view) => setState((before) => ({ ...before, view })),
    }),
    [state],
  );
}

/** Rows that are already there keep their ids, and with them their editors. */
function fromUrl(before: State | null): State {
  const { queries, ...rest } = decodeState(location.search);
  let nextId = before?.nextId ?? 1;
  const rows = queries.map((query, index) => ({ ...query, id: before?.rows[index]?.id ?? nextId++ }));
  return { ...rest, rows, nextId, runs: (before?.runs ?? 0) + 1 };
}
