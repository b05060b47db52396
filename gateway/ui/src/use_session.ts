// Draws again whenever somebody signs in or out, or has to.

import { useEffect, useState } from 'preact/hooks';
import { session, type Session } from './api/session';

export function useSession(): Session {
  const [, setTurns] = useState(0);
  useEffect(() => session.subscribe(() => setTurns((turns) => turns + 1)), []);
  return session;
}
