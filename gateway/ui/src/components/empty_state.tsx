import { exampleQueries } from '../lib/examples';

interface EmptyStateProps {
  readonly metricNames: readonly string[] | null;
  readonly problem: string | null;
  readonly onQuery: (query: string) => void;
}

/** What stands in the place of a chart while there is no query. */
export function EmptyState({ metricNames, problem, onQuery }: EmptyStateProps) {
  if (problem !== null) {
    return (
      <div class="empty" role="alert">
        <h2>The server does not answer</h2>
        <p>{problem}</p>
      </div>
    );
  }
  if (metricNames === null) return <div class="empty" aria-busy="true" />;
  if (metricNames.length === 0) return <NoMetrics />;
  return (
    <div class="empty">
      <h2>What would you like to see?</h2>
      <p>Type a PromQL query above, pick a metric from the browser, or start with one of these.</p>
      <ul class="examples">
        {exampleQueries(metricNames).map((example) => (
          <li key={example.query}>
            <button type="button" class="example" title={example.query} onClick={() => onQuery(example.query)}>
              <span class="example-title clamped">{example.title}</span>
              <code class="clamped">{example.query}</code>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function NoMetrics() {
  const base = new URL('.', document.baseURI);
  return (
    <div class="empty">
      <h2>No metrics yet</h2>
      <p>The database is empty. Send it a first sample from a terminal:</p>
      <pre class="code-block" tabIndex={0}>{`echo 'temperature{room="kitchen"} 21.5' |\n  curl --data-binary @- ${base.href}api/v1/import/prometheus`}</pre>
      <p>
        Or let a Prometheus write here: add <code>{`remote_write: [{url: ${base.href}api/v1/write}]`}</code> to its configuration.
      </p>
    </div>
  );
}
