/** Reads the Secrets and ConfigMaps that a request names. */

/** A Secret or a ConfigMap: its entries, decoded. */
export interface ReferencedObject {
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  data: Readonly<Record<string, Buffer>>;
}

export interface ObjectReference {
  kind: 'Secret' | 'ConfigMap';
  namespace: string;
  name: string;
}

export interface ReferenceResolver {
  /** Reads the object anew at each call and keeps nothing. Undefined when there is no such object. */
  resolve(reference: ObjectReference): Promise<ReferencedObject | undefined>;
}
