-module(portmapper_glob_tests).

-include_lib("eunit/include/eunit.hrl").

a_pattern_matches_whole_names_test_() ->
    [
        ?_assertEqual({Glob, Name, Expected}, {Glob, Name, matches(Glob, Name)})
     || {Glob, Yes, No} <- [
            {"n", ["n"], ["n1", "", "m"]},
            {"web*", ["web", "web12", "web*"], ["aweb", "we"]},
            {"*", ["", "anything"], []},
            {"**", ["", "anything"], []},
            {"*@?", ["n@1", "n@2@3"], ["n@", "n@23"]},
            {"n?", ["né", "n?"], ["n"]},
            {"*a*b", ["ab", "aab", "abab", "xaxb"], ["ba", "abc"]},
            {"a*a", ["aa", "aba"], ["a"]},
            {"[a-c]", ["a", "b", "c"], ["d", "-", "]"]},
            {"[!a-c]", ["d", "é", "!"], ["a", "b", "c"]},
            {"[a-cx-z_]", ["a", "y", "_"], ["d", "w", "-"]},
            {"[]]", ["]"], ["["]},
            {"[!]]", ["["], ["]"]},
            {"[a-]", ["a", "-"], ["b"]},
            {"[*?[]", ["*", "?", "["], ["a"]},
            {"[z-a]", [], ["a", "z", "-"]},
            {"n[0-9]*", ["n1_a"], ["n_1"]},
            {"[a*", ["[ab"], ["a"]},
            {"[!", ["[!"], ["[", "!"]},
            {"a[b-", ["a[b-"], ["ab"]}
        ],
        {Names, Expected} <- [{Yes, true}, {No, false}],
        Name <- Names
    ].

a_pattern_obeys_the_rules_for_names_test_() ->
    [?_assertEqual(error, portmapper_glob:compile(Glob)) || Glob <- [
        <<>>, <<255>>, <<"a", 0>>, binary:copy(<<"a">>, 256)
    ]].

what_is_not_text_matches_no_pattern_but_all_test_() ->
    [?_assertNot(matches("?", <<255>>)), ?_assertNot(matches("?*", <<255>>))].

a_pattern_made_to_take_long_does_not_test() ->
    Name = binary:copy(<<"a">>, 254),
    ?assertNot(matches(lists:append(lists:duplicate(127, "*a")), <<Name/binary, "b">>)).

matches(Glob, Name) ->
    {ok, Compiled} = portmapper_glob:compile(unicode:characters_to_binary(Glob)),
    portmapper_glob:matches(binary(Name), Compiled).

binary(Name) when is_binary(Name) -> Name;
binary(Name) -> unicode:characters_to_binary(Name).
