#!/bin/sh
# The defaults that the upstream image's entrypoint puts before the arguments of each command.
given() {
    option=$1
    shift
    for argument; do
        case $argument in
            "$option" | "$option"=*) return 0 ;;
        esac
    done
    return 1
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
    master) set -- -mdir=/data -volumeSizeLimitMB=1024 "$@" ;;
    volume)
        given -max "$@" || set -- -max=0 "$@"
        set -- -dir=/data "$@"
        ;;
    server)
        given -volume.max "$@" || set -- -volume.max=0 "$@"
        set -- -dir=/data -master.volumeSizeLimitMB=1024 "$@"
        ;;
    "") exec /usr/bin/weed ;;
esac
exec /usr/bin/weed -logtostderr=true "$command" "$@"
