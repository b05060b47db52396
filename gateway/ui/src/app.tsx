import { useCallback, useMemo, useRef, useState } from 'preact/hooks';
import { Catalog, completionSource } from './api/catalog';
import { ChangePassword } from './components/change_password';
import { EmptyState } from './components/empty_state';
import { Header } from './components/header';
import { Icon } from './components/icons';
import { MetricBrowser } from './components/metric_browser';
import { QueryRow } from './components/query_row';
import { GraphView, TableView } from './components/results';
import { Toolbar } from './components/toolbar';
import type { QueryEditor } from './editor/query_editor';
import { metricSelector } from './lib/labels';
import { addMatcher } from './lib/selector';
import { DEFAULT_RANGE, type TimeRange } from './lib/time_range';
import { QUERIES_MAX, type ViewName } from './lib/url_state';
import { useMetricNames } from './use_metric_names';
import { usePage, type Row } from './use_page';
import { useOutcome } from './use_outcome';
import { useSession } from './use_session';
import { useTheme } from './theme';

const WIDE = '(min-width: 900px)';
const LETTERS = 'ABCDEFGH';

export function App() {
  const theme = useTheme();
  const session = useSession();
  const page = usePage();
  const { rows, range } = page;
  const [catalog] = useState(() => new Catalog());
  const [source] = useState(() => completionSource(catalog));
  const metrics = useMetricNames(catalog);
  const [browserOpen, setBrowserOpen] = useState(() => matchMedia(WIDE).matches);
  const [activeId, setActiveId] = useState(rows[0]?.id ?? 0);
  const [changing, setChanging] = useState(false);
  const [beforeZoom, setBeforeZoom] = useState<TimeRange | null>(null);
  const editors = useRef(new Map<number, QueryEditor>());
  const main = useRef<HTMLElement>(null);
  const { outcome, loading } = useOutcome(page, main);

  const letters = useMemo(() => new Map(rows.map((row, index) => [row.id, LETTERS[index] ?? ''])), [rows]);
  const active = rows.find((row) => row.id === activeId) ?? rows[0];

  /** Takes over what stands in the editors and runs it, also when nothing changed. */
  const run = useCallback((): void => {
    page.run((row) => editors.current.get(row.id)?.text ?? row.expr);
  }, [page]);

  const setActiveText = (change: (text: string) => string): void => {
    if (active === undefined) return;
    const editor = editors.current.get(active.id);
    editor?.setText(change(editor.text));
    run();
    if (!matchMedia(WIDE).matches) setBrowserOpen(false);
    editor?.focus();
  };

  const zoom = (from: number, to: number): void => {
    setBeforeZoom(beforeZoom ?? range);
    page.setRange({ kind: 'absolute', from: roundMilliseconds(from), to: roundMilliseconds(to) });
  };
  const resetZoom = (): void => {
    if (beforeZoom !== null) page.setRange(beforeZoom);
    else if (range.kind === 'absolute') page.setRange(DEFAULT_RANGE);
    setBeforeZoom(null);
  };
  const chooseRange = (chosen: TimeRange): void => {
    setBeforeZoom(null);
    page.setRange(chosen);
  };

  const hasQuery = rows.some((row) => row.expr.trim() !== '');
  return (
    <div class={`page${browserOpen ? ' with-browser' : ''}`}>
      <a class="skip-link" href="#queries">
        Skip to the queries
      </a>
      <Header
        browser={{ open: browserOpen, toggle: () => setBrowserOpen(!browserOpen) }}
        dark={theme.dark}
        onToggleTheme={theme.toggle}
        onSignOut={session.signedIn ? () => session.signOut() : null}
        onPassword={session.byPassword ? () => setChanging(true) : null}
      />
      {changing && <ChangePassword session={session} onClose={() => setChanging(false)} />}
      {browserOpen && (
        <MetricBrowser
          catalog={catalog}
          metricNames={metrics.names}
          problem={metrics.problem}
          onReload={metrics.reload}
          onClose={() => setBrowserOpen(false)}
          onMetric={(metric) => setActiveText(() => metricSelector(metric))}
          onMatcher={(metric, label, value) => setActiveText((text) => addMatcher(text, metric, label, value))}
        />
      )}
      <main class="main" ref={main} id="queries" tabIndex={-1}>
        <section class="queries" aria-label="Queries">
          {rows.map((row: Row) => (
            <QueryRow
              key={row.id}
              letter={letters.get(row.id) ?? ''}
              expr={row.expr}
              enabled={row.enabled}
              active={rows.length > 1 && row.id === active?.id}
              removable={rows.length > 1}
              outcome={outcome?.rows.find((one) => one.id === row.id) ?? null}
              source={source}
              onEditor={(editor) => (editor === null ? editors.current.delete(row.id) : editors.current.set(row.id, editor))}
              onRun={run}
              onFocus={() => setActiveId(row.id)}
              onToggle={() => page.toggleRow(row.id)}
              onRemove={() => page.removeRow(row.id)}
            />
          ))}
          <button
            type="button"
            class="button quiet add-query"
            disabled={rows.length >= QUERIES_MAX}
            title={rows.length >= QUERIES_MAX ? `At most ${QUERIES_MAX} queries` : 'Add a query'}
            onClick={() => setActiveId(page.addRow())}
          >
            <Icon name="plus" />
            Add query
          </button>
        </section>
        <Toolbar
          range={range}
          step={page.step}
          usedStep={outcome?.window.step ?? null}
          refresh={page.refresh}
          loading={loading}
          onRange={chooseRange}
          onStep={page.setStep}
          onRefresh={page.setRefresh}
          onRun={run}
        />
        <section class="results" aria-label="Results" aria-busy={loading}>
          <div class="results-head">
            <ViewTabs view={page.view} onView={page.setView} />
            <p class="hint" role="status">
              {statusText(loading, outcome?.milliseconds ?? null)}
            </p>
          </div>
          <div class={`progress${loading ? ' on' : ''}`} aria-hidden="true" />
          <div class="results-body" role="tabpanel" id="results-panel" aria-label={page.view === 'graph' ? 'Graph' : 'Table'}>
            {!hasQuery && (
              <EmptyState metricNames={metrics.names} problem={metrics.problem} onQuery={(query) => setActiveText(() => query)} />
            )}
            {hasQuery && outcome?.view === 'graph' && page.view === 'graph' && (
              <GraphView outcome={outcome} letters={letters} dark={theme.dark} onZoom={zoom} onReset={resetZoom} />
            )}
            {hasQuery && outcome?.view === 'table' && page.view === 'table' && <TableView outcome={outcome} letters={letters} />}
          </div>
        </section>
      </main>
    </div>
  );
}

function ViewTabs({ view, onView }: { view: ViewName; onView: (view: ViewName) => void }) {
  const tab = (name: ViewName, text: string) => (
    <button
      type="button"
      role="tab"
      class="tab"
      aria-selected={view === name}
      aria-controls="results-panel"
      tabIndex={view === name ? 0 : -1}
      onClick={() => onView(name)}
      onKeyDown={(event) => {
        if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
        const other = event.currentTarget.nextElementSibling ?? event.currentTarget.previousElementSibling;
        if (other instanceof HTMLElement) other.focus();
        onView(name === 'graph' ? 'table' : 'graph');
      }}
    >
      {text}
    </button>
  );
  return (
    <div class="tabs" role="tablist" aria-label="View">
      {tab('graph', 'Graph')}
      {tab('table', 'Table')}
    </div>
  );
}

function statusText(loading: boolean, milliseconds: number | null): string {
  if (milliseconds === null) return loading ? 'Loading…' : '';
  return `${Math.max(1, Math.round(milliseconds))} ms`;
}

function roundMilliseconds(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
