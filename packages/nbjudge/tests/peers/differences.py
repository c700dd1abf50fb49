"""Where the engine differs from stock nbgrader on purpose: the test of nbgrader's, and why."""

DELIBERATE = {
    "test_grade_empty_timestamp": "A time of handing in that cannot be read is flagged and no "
    "time is recorded; stock leaves the submission ungraded.",
    "test_filter_notebook": "A graded folder that lacks its notebook is what a killed run leaves, "
    "so it is graded again; stock takes it for done.",
    "test_handle_failure": "Cells that the released assignment does not have are the learner's "
    "own and earn nothing; stock fails on them and leaves the submission ungraded.",
    "test_handle_failure_single_notebook": "As test_handle_failure, with --notebook.",
    "test_missing_source_kernelspec": "What a learner's notebook names as its kernel is flagged "
    "and never chosen: the course's notebook says which kernel runs.",
    "test_no_execute": "Outputs that were handed in are no grade, since a learner can write any: "
    "--no-execute is refused, and nothing is graded.",
    "test_missing_files": "A folder without a notebook is graded as 0, with a flag, so that the "
    "learner hears of it; stock passes over it.",
    "test_grade_missing_notebook": "A notebook that is missing is graded as 0, with a flag, in a "
    "notebook of the course's; stock records the 0 alone.",
    "test_hidden_tests_single_notebook": "The judge cannot check a test that deletes a learner's "
    "function.",
}

#: Quick ones that between them reach every part: these run in `make test`.
SHORT = {
    "test_grade_hashed_autotest",
    "test_grade_overwrite_files_subdirs",
    "test_side_effects",
    "test_no_execute",
}
