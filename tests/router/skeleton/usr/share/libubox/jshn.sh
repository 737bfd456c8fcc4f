# Scripts that source this for their own library's sake find it; what it has for JSON, none of them needs here.
