{{- define "echostr.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "echostr.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 56 | trimSuffix "-" }}
{{- else if contains (include "echostr.name" .) .Release.Name }}
{{- .Release.Name | trunc 56 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "echostr.name" .) | trunc 56 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "echostr.selector" -}}
app.kubernetes.io/name: {{ include "echostr.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "echostr.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "echostr.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "echostr.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "echostr.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "echostr.secret" -}}
{{- required "existingSecret: the name of a Secret with the token of the admin listener and the secrets of your accounts" .Values.existingSecret }}
{{- end }}

{{- define "echostr.config" -}}
# Made by the chart; see its values.
[server]
listen = "0.0.0.0:8080"
shutdown_grace = "{{ .Values.server.shutdownGraceSeconds }}s"
trusted_proxies = {{ .Values.server.trustedProxies | toJson }}
{{- with .Values.server.extra }}
{{ . | trimSuffix "\n" }}
{{- end }}

[log]
format = "json"
level = {{ .Values.log.level | toJson }}

[admin]
listen = "0.0.0.0:9180"
token = { file = "/run/secrets/echostr/{{ .Values.adminTokenKey }}" }

[journal]
{{- if eq .Values.journal.kind "postgres" }}
url = { file = "/run/secrets/echostr/{{ .Values.journal.postgres.urlKey }}" }
{{- else }}
url = "sqlite:///var/lib/echostr/data/echostr.db"
{{- end }}
max_size = "{{ .Values.journal.maxSize }}"
retention = "{{ .Values.journal.retention }}"

{{ .Values.config }}
{{- end }}

{{- /* What StatefulSet and Deployment have in common. */}}
{{- define "echostr.pod" -}}
metadata:
  annotations:
    # Pods are replaced when the configuration changes.
    checksum/config: {{ include "echostr.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "echostr.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "echostr.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Five seconds more than the server waits for deliveries in flight: for the journal.
  terminationGracePeriodSeconds: {{ add .Values.server.shutdownGraceSeconds 5 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: echostr
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      {{- with .Values.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8080
        - name: admin
          containerPort: 9180
      # Neither needs the token of the admin listener.
      startupProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 1
        # A large journal is migrated at the first start of a new version.
        failureThreshold: 600
      livenessProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 10
        timeoutSeconds: 3
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/echostr
          readOnly: true
        - name: secrets
          mountPath: /run/secrets/echostr
          readOnly: true
        - name: tmp
          mountPath: /tmp
        {{- if eq .Values.journal.kind "sqlite" }}
        - name: data
          mountPath: /var/lib/echostr/data
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "echostr.fullname" . }}
    - name: secrets
      secret:
        secretName: {{ include "echostr.secret" . }}
        defaultMode: 0440
    - name: tmp
      emptyDir: {}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if eq .Values.journal.kind "postgres" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "echostr.selector" . | nindent 10 }}
  {{- end }}
{{- end }}
