{{/* The parts of a pod for its HTTP server, by the values below http. Each takes the root. */}}

{{- define "disklift.httpEnv" -}}
{{- with .Values.http }}
{{- if .certificateSecretName }}
- name: DISKLIFT_LISTEN_CERTIFICATE_FILE
  value: /etc/disklift/certificate/tls.crt
- name: DISKLIFT_LISTEN_KEY_FILE
  value: /etc/disklift/certificate/tls.key
{{- end }}
{{- if .tokenSecretName }}
- name: DISKLIFT_LISTEN_TOKEN_FILE
  value: /etc/disklift/token/token
{{- end }}
{{- if .tokenReview }}
- name: DISKLIFT_LISTEN_TOKEN_REVIEW
  value: "true"
{{- end }}
{{- end }}
{{- end -}}

{{- define "disklift.probes" -}}
# Fails if the API server has sent nothing for minutes. A new process connects again, and resumes what the old one has begun.
livenessProbe:
  httpGet:
    path: /livez
    port: http
    {{- if .Values.http.certificateSecretName }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: http
    {{- if .Values.http.certificateSecretName }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{- define "disklift.httpMounts" -}}
{{- if .Values.http.certificateSecretName }}
- name: certificate
  mountPath: /etc/disklift/certificate
  readOnly: true
{{- end }}
{{- if .Values.http.tokenSecretName }}
- name: token
  mountPath: /etc/disklift/token
  readOnly: true
{{- end }}
{{- end -}}

{{/* The default mode lets every user read the files: they belong to root, and there is no fsGroup. */}}
{{- define "disklift.httpVolumes" -}}
{{- with .Values.http.certificateSecretName }}
- name: certificate
  secret:
    secretName: {{ . | quote }}
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
{{- with .Values.http.tokenSecretName }}
- name: token
  secret:
    secretName: {{ . | quote }}
    items:
      - key: token
        path: token
{{- end }}
{{- end -}}
