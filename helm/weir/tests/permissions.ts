/** What each ServiceAccount may do, as rows: from the manifests that grant it, and from the reviewed page. */

/** A permission: one rule of one role that is bound to one account. */
export interface Permission {
  readonly account: string;
  /** `cluster`, or the namespace in which it holds. */
  readonly where: string;
  readonly apiGroups: string;
  readonly resources: string;
  /** Names of the objects it is confined to; `any`. */
  readonly names: string;
  readonly verbs: string;
}

/** As much of a manifest as grants something. */
export interface RbacManifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly {
    readonly apiGroups?: readonly string[];
    readonly resources?: readonly string[];
    readonly resourceNames?: readonly string[];
    readonly nonResourceURLs?: readonly string[];
    readonly verbs: readonly string[];
  }[];
  readonly roleRef?: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly kind: string; readonly name: string }[];
}

const list = (values: readonly string[] | undefined): string =>
  (values ?? []).map((value) => (value === '' ? 'core' : value)).join(', ');

/** Every permission that the manifests grant, in the order in which they grant them. */
export function grantedPermissions(manifests: readonly RbacManifest[]): Permission[] {
  return manifests.flatMap(({ roleRef, subjects, metadata, kind }) => {
    if (roleRef === undefined) return [];
    const where = kind === 'ClusterRoleBinding' ? 'cluster' : (metadata.namespace ?? '');
    const role = manifests.find((one) => one.kind === roleRef.kind && one.metadata.name === roleRef.name);
    if (role === undefined)
      throw new Error(`${kind} ${metadata.name} binds ${roleRef.name}, which is not there`);
    return (subjects ?? []).flatMap((subject) =>
      (role.rules ?? []).map((rule) => ({
        account: subject.kind === 'ServiceAccount' ? subject.name : `${subject.kind} ${subject.name}`,
        where,
        apiGroups: list(rule.apiGroups),
        resources: list([...(rule.resources ?? []), ...(rule.nonResourceURLs ?? [])]),
        names: list(rule.resourceNames) || 'any',
        verbs: list(rule.verbs),
      })),
    );
  });
}

/** The permissions of the page's tables, each with what it is for. */
export function reviewedPermissions(page: string): (Permission & { readonly why: string })[] {
  return page.split('\n').flatMap((line) => {
    const cells = line.split('|').map((cell) => cell.trim().replaceAll('`', ''));
    if (cells.length !== 9 || cells[1] === 'Account' || cells[1]?.startsWith('---') === true) return [];
    const [, account = '', where = '', apiGroups = '', resources = '', names = '', verbs = '', why = ''] =
      cells;
    return [{ account, where, apiGroups, resources, names, verbs, why }];
  });
}

/** As much of a rule as SelfSubjectRulesReview tells. */
export interface ReviewedRule {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
}

/** Every single thing that rules allow, as `verb group/resource name`, sorted, each once. */
export function singlePermissions(rules: readonly ReviewedRule[]): string[] {
  const single = rules.flatMap(({ verbs, apiGroups, resources, resourceNames, nonResourceURLs }) =>
    verbs.flatMap((verb) => [
      ...(nonResourceURLs ?? []).map((url) => `${verb} ${url}`),
      ...(apiGroups ?? []).flatMap((group) =>
        (resources ?? []).flatMap((resource) =>
          (resourceNames?.length ? resourceNames : ['any']).map(
            (name) => `${verb} ${group === '' ? 'core' : group}/${resource} ${name}`,
          ),
        ),
      ),
    ]),
  );
  return [...new Set(single)].sort();
}

/** The same of rows of the page. */
export function singlePermissionsOf(permissions: readonly Permission[]): string[] {
  const parts = (text: string) => text.split(', ');
  return singlePermissions(
    permissions.map(({ verbs, apiGroups, resources, names }) => ({
      verbs: parts(verbs),
      apiGroups: parts(apiGroups).filter((group) => group !== ''),
      resources: parts(resources).filter((resource) => !resource.startsWith('/')),
      nonResourceURLs: parts(resources).filter((resource) => resource.startsWith('/')),
      resourceNames: names === 'any' ? [] : parts(names),
    })),
  );
}
