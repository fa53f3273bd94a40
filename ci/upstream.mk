# For ci/upstream: how many tests the suite has.
count: ; @echo $(words $(TESTS))
.PHONY: count
