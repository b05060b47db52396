// Runs the page's queries whenever something that matters changed, and again for live refresh.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { RefObject } from 'preact';
import { bounds, queryWindow } from './lib/time_range';
import { QueryRunner, type Outcome } from './query_runner';
import type { Page } from './use_page';

const PADDING_PIXELS = 90;

export function useOutcome(page: Page, main: RefObject<HTMLElement | null>): { outcome: Outcome | null; loading: boolean } {
  const [runner] = useState(() => new QueryRunner());
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [loading, setLoading] = useState(false);
  const [ticks, setTicks] = useState(0);
  const { rows, range, step, view, runs, refresh } = page;
  const queries = useMemo(() => rows.filter((row) => row.enabled && row.expr.trim() !== ''), [rows]);
  // Adding an empty row or hiding one must not ask the server the same again, so the texts decide.
  const asked = JSON.stringify(queries.map((row) => [row.id, row.expr]));
  const latest = useRef(queries);
  latest.current = queries;

  useEffect(() => {
    if (latest.current.length === 0) {
      runner.cancel();
      setOutcome(null);
      setLoading(false);
      return;
    }
    const now = Date.now() / 1000;
    const width = Math.max(200, (main.current?.clientWidth ?? 1_000) - PADDING_PIXELS);
    const window = queryWindow(range, now, step, width, refresh > 0);
    setLoading(true);
    void runner.run(latest.current, window, bounds(range, now).to, view).then((answer) => {
      // A newer run is under way; its answer counts.
      if (answer === null) return;
      setOutcome(answer);
      setLoading(false);
    });
  }, [asked, range, step, view, runs, ticks]);

  useEffect(() => () => runner.cancel(), [runner]);

  // The next refresh is counted from the last answer, so a slow server is never asked twice at a time.
  useEffect(() => {
    if (refresh === 0 || loading || range.kind === 'absolute') return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tick = (): void => setTicks((count) => count + 1);
    const schedule = (): void => {
      clearTimeout(timer);
      if (!document.hidden) timer = setTimeout(tick, refresh * 1000);
    };
    schedule();
    document.addEventListener('visibilitychange', schedule);
    return () => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', schedule);
    };
  }, [refresh, loading, outcome, range]);

  return { outcome, loading };
}
