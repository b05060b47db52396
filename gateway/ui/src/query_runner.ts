// Runs all rows of the page for one window of time. A newer run cancels the one before it.

import * as api from './api/client';
import type { QueryData } from './api/types';
import { explainError, positionOfError, type PositionedError } from './lib/error_position';
import type { Window } from './lib/time_range';
import type { ViewName } from './lib/url_state';

export interface RowQuery {
  readonly id: number;
  readonly expr: string;
}

export interface RowOutcome {
  readonly id: number;
  readonly expr: string;
  readonly data: QueryData | null;
  readonly error: string | null;
  readonly position: PositionedError | null;
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
}

export interface Outcome {
  readonly view: ViewName;
  readonly window: Window;
  /** The time that the table shows. */
  readonly instant: number;
  readonly rows: readonly RowOutcome[];
  readonly milliseconds: number;
}

export class QueryRunner {
  private current: AbortController | null = null;

  /** Null when a newer run, or `cancel`, took over. */
  async run(queries: readonly RowQuery[], window: Window, instant: number, view: ViewName): Promise<Outcome | null> {
    this.cancel();
    const controller = new AbortController();
    this.current = controller;
    const began = performance.now();
    try {
      const rows = await Promise.all(queries.map((query) => runRow(query, window, instant, view, controller.signal)));
      if (controller.signal.aborted) return null;
      return { view, window, instant, rows, milliseconds: performance.now() - began };
    } catch (error) {
      if (api.isAbort(error)) return null;
      throw error;
    }
  }

  cancel(): void {
    this.current?.abort();
    this.current = null;
  }
}

async function runRow(
  query: RowQuery,
  window: Window,
  instant: number,
  view: ViewName,
  signal: AbortSignal,
): Promise<RowOutcome> {
  const empty = { id: query.id, expr: query.expr, data: null, error: null, position: null, warnings: [], infos: [] };
  try {
    const answer =
      view === 'graph' ? await api.queryRange(query.expr, window, signal) : await api.queryInstant(query.expr, instant, signal);
    return { ...empty, ...answer };
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    return { ...empty, error: explainError(error.message), position: positionOfError(query.expr, error.message) };
  }
}
