-- Whose pieces, whichever the table.
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
        AND (empty({name_contains:String}) OR positionCaseInsensitiveUTF8(r.name, {name_contains:String}) > 0)
        AND (empty({name_prefix:String}) OR startsWith(r.name, {name_prefix:String}))
        AND (empty({name_regex:String}) OR match(r.name, {name_regex:String}))
