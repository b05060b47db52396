// The names of all metrics, loaded once and again on demand. An empty database is asked again by itself, so that the
// page comes to life with the first sample.

import { useCallback, useEffect, useState } from 'preact/hooks';
import type { Catalog } from './api/catalog';

const EMPTY_POLL_MILLISECONDS = 3_000;

export interface MetricNames {
  readonly names: readonly string[] | null;
  readonly problem: string | null;
  readonly reload: () => void;
}

export function useMetricNames(catalog: Catalog): MetricNames {
  const [names, setNames] = useState<readonly string[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const load = useCallback(() => {
    catalog.metricNames().then(
      (answer) => {
        setNames(answer);
        setProblem(null);
      },
      (error: unknown) => setProblem(error instanceof Error ? error.message : String(error)),
    );
  }, [catalog]);
  useEffect(load, [load]);
  const reload = useCallback(() => {
    catalog.forget();
    load();
  }, [catalog, load]);
  useEffect(() => {
    if (names?.length !== 0) return undefined;
    const timer = setInterval(() => {
      if (!document.hidden) reload();
    }, EMPTY_POLL_MILLISECONDS);
    return () => clearInterval(timer);
  }, [names, reload]);
  return { names, problem, reload };
}
