module weir.dev/lab/agent

go 1.21
