from nbjudge import configure

c = get_config()  # noqa: F821
configure(c)
c.CourseDirectory.course_id = "second"
