import { useEffect, useRef } from 'preact/hooks';
import type { PrometheusClient } from '@prometheus-io/codemirror-promql';
import { QueryEditor } from '../editor/query_editor';
import type { RowOutcome } from '../query_runner';
import { Icon } from './icons';

interface QueryRowProps {
  readonly letter: string;
  readonly expr: string;
  readonly enabled: boolean;
  readonly active: boolean;
  readonly removable: boolean;
  readonly outcome: RowOutcome | null;
  readonly source: PrometheusClient;
  readonly onEditor: (editor: QueryEditor | null) => void;
  readonly onRun: () => void;
  readonly onFocus: () => void;
  readonly onToggle: () => void;
  readonly onRemove: () => void;
}

export function QueryRow(props: QueryRowProps) {
  const { letter, enabled, outcome } = props;
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<QueryEditor | null>(null);
  // The editor outlives renders; it calls what the latest render passed.
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    if (host.current === null) return undefined;
    const created = new QueryEditor({
      host: host.current,
      text: latest.current.expr,
      label: `PromQL query ${letter}`,
      source: latest.current.source,
      onRun: () => latest.current.onRun(),
      onFocus: () => latest.current.onFocus(),
    });
    editor.current = created;
    latest.current.onEditor(created);
    return () => {
      latest.current.onEditor(null);
      created.destroy();
    };
  }, []);

  useEffect(() => editor.current?.setText(props.expr), [props.expr]);

  useEffect(() => {
    // An answer that came after the text was edited speaks of another query.
    if (outcome !== null && editor.current?.text !== outcome.expr) return;
    editor.current?.setError(outcome?.position ?? null);
  }, [outcome]);

  return (
    <div class={`query-row${enabled ? '' : ' off'}`} role="group" aria-label={`Query ${letter}`}>
      <div class={`query-box${props.active ? ' active' : ''}`}>
        <button
          type="button"
          class="query-letter"
          aria-pressed={enabled}
          aria-label={`Query ${letter} is ${enabled ? 'shown' : 'hidden'}`}
          title={enabled ? 'Hide this query' : 'Show this query'}
          onClick={props.onToggle}
        >
          <span aria-hidden="true">{letter}</span>
          <Icon name={enabled ? 'eye' : 'eyeOff'} />
        </button>
        <div class="query-editor" ref={host} />
        {props.removable && (
          <button type="button" class="button quiet icon-only" aria-label={`Remove query ${letter}`} title="Remove" onClick={props.onRemove}>
            <Icon name="close" />
          </button>
        )}
      </div>
      {outcome !== null && <Notices outcome={outcome} />}
    </div>
  );
}

function Notices({ outcome }: { outcome: RowOutcome }) {
  return (
    <>
      {outcome.error !== null && outcome.position === null && (
        <p class="notice danger" role="alert">
          {outcome.error}
        </p>
      )}
      {outcome.warnings.map((text) => (
        <p class="notice warning" role="status" key={text}>
          <b>Warning</b> {text}
        </p>
      ))}
      {outcome.infos.map((text) => (
        <p class="notice info" role="status" key={text}>
          <b>Info</b> {text}
        </p>
      ))}
    </>
  );
}
