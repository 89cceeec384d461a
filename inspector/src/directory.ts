// Accounts and catalogue: asked once, used by filter, forms and commands.

import { useEffect, useState } from "preact/hooks";
import { type Account, type CatalogType, get } from "./api";
import type { Known } from "./query";

export interface Directory {
  accounts: Account[];
  types: CatalogType[];
  byType: Map<string, CatalogType>;
  known: Known;
}

const NOTHING: Directory = directory([], []);

function directory(accounts: Account[], types: CatalogType[]): Directory {
  const platforms = [...new Set([...accounts.map(({ platform }) => platform), ...types.map(({ platform }) => platform)])];
  return {
    accounts,
    types,
    byType: new Map(types.map((type) => [type.type, type])),
    known: { accounts: accounts.map(({ id }) => id), platforms, types: types.map(({ type }) => type) },
  };
}

async function load(): Promise<Directory> {
  const [{ accounts }, { types }] = await Promise.all([
    get<{ accounts: Account[] }>("/v1/accounts"),
    get<{ types: CatalogType[] }>("/v1/catalog"),
  ]);
  return directory(accounts, types);
}

let loading: Promise<Directory> | null = null;

/** Empty until it is there. */
export function useDirectory(): Directory {
  const [found, setFound] = useState(NOTHING);
  useEffect(() => {
    let wanted = true;
    loading ??= load();
    loading.then(
      (directory) => wanted && setFound(directory),
      // The next view that needs it asks again.
      () => (loading = null),
    );
    return () => void (wanted = false);
  }, []);
  return found;
}
