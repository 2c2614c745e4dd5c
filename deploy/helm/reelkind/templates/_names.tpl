{{- define "reelkind.labels" -}}
app.kubernetes.io/name: reelkind
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "reelkind.server" -}}
{{ include "reelkind.labels" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "reelkind.web" -}}
{{ include "reelkind.labels" . }}
app.kubernetes.io/component: web
{{- end }}

{{- define "reelkind.envoy" -}}
{{ include "reelkind.labels" . }}
app.kubernetes.io/component: envoy
{{- end }}

{{- define "reelkind.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "reelkind.container" -}}
securityContext:
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "reelkind.tls-arguments" -}}
{{- if .Values.tls.secret -}}
, --tls-ca, /tls/ca.crt, --tls-cert, /tls/tls.crt, --tls-key, /tls/tls.key
{{- end }}
{{- end }}

{{- /* What asks the ensemble, and with TLS shows the server's own certificate. */ -}}
{{- define "reelkind.health" -}}
[reelkind, health, --url, "localhost:8001", --timeout, {{ sub .Values.server.probe.timeoutSeconds 2 | quote }}
{{- include "reelkind.tls-arguments" . }}]
{{- end }}
