-- Whose pieces, whichever the table; NAME is its column of names.
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
        AND (empty({name_contains:String}) OR positionCaseInsensitiveUTF8(r.NAME, {name_contains:String}) > 0)
        AND (empty({name_prefix:String}) OR startsWith(r.NAME, {name_prefix:String}))
        AND (empty({name_regex:String}) OR match(r.NAME, {name_regex:String}))
