{{- /* SeaweedFS in one process. Master, volumes and filer listen on the pod's loopback: only S3 asks for keys. */}}
{{- define "onggi.s3.args" -}}
- -logtostderr=true
- server
- -dir=/data
- -ip=127.0.0.1
- -ip.bind=127.0.0.1
- -master.telemetry=false
- -master.volumeSizeLimitMB=1024
- -volume.max=0
- -filer
- -s3
- -s3.port=8333
- -s3.ip.bind=0.0.0.0
- -s3.port.iceberg=0
- -s3.port.lance=0
- -s3.autoCreateBucket=false
- -s3.iam=false
{{- end }}

{{- /* Make the bucket unless it is there, however long the process takes to come up. */}}
{{- define "onggi.s3.bucket" -}}
shell() { echo "$1" | weed shell -master=127.0.0.1:9333 2>&1; }
until shell s3.bucket.list | grep -q "^ *{{ .bucket }}[^a-z0-9.-]"; do shell "s3.bucket.create -name {{ .bucket }}"; sleep 1; done
{{- end }}
