{{/* What the pods of server and worker share. */}}
{{- define "pijobs.labels" -}}
app.kubernetes.io/name: pijobs
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "pijobs.pod" -}}
# SIGTERM to SIGKILL. Server and worker have ended before, by the options that they are given.
terminationGracePeriodSeconds: 30
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
# int64: Helm writes a number such as 1000650000, a user of OpenShift, as 1.00065e+09.
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int64 .Values.user }}
  runAsGroup: {{ int64 .Values.user }}
  fsGroup: {{ int64 .Values.user }}
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: config
    secret:
      secretName: {{ .Values.existingSecret | default .Release.Name }}
      defaultMode: 0440
  - {name: state, emptyDir: {}}
  - {name: tmp, emptyDir: {}}
{{- end }}

{{- define "pijobs.container" -}}
image: "{{ required "image.repository: where the image of contrib/docker/Dockerfile is" .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
# The user has no entry in the image's /etc/passwd.
env: [{name: HOME, value: /var/lib/pijobs}]
volumeMounts:
  - {name: config, mountPath: /etc/privacyidea, readOnly: true}
  - {name: state, mountPath: /var/lib/pijobs}
  - {name: tmp, mountPath: /tmp}
# A start takes longer where many begin together.
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 60
# Restarted when the process does not answer. Not when the queue is in trouble: that would not help it.
livenessProbe:
  httpGet: {path: /livez, port: http}
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}
