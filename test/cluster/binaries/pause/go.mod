// The first process of every pod.
module disklift.dev/test/pause

go 1.26.0
