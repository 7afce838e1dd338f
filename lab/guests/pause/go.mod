module weir.dev/lab/pause

go 1.21
