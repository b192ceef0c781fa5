"""Plots about gardens, hills, ponds and weather."""

from __future__ import annotations

from storyteller.data.bundled.story_templates import TemplateFiller
from storyteller.data.bundled.word_banks import BIRDS, WATERSIDE, WOODLAND, rows

KITE_HELPERS = rows(
    """
    who; how
    an old man; He [had a ladder in his shed|put down his newspaper and fetched a long rake]. "I had a kite too, when I was small," he said, and he [lifted|hooked] the kite off the branch.
    a tall woman; She [lifted {h} onto her shoulders|made a step with her two hands]. {^h} could just reach the kite and pull it free.
    a woman in a fire helmet; She was on her way home with a ladder. "[This is what ladders are for|No job is too small]," she said, and up she climbed.
    a squirrel; It ran up the trunk, [looked at the string|sniffed the string], and began to chew. Nibble, nibble, snap! The kite slid down through the leaves.
    a crow; It [tilted its head|hopped along the branch] and pulled at the string with its beak. One pull, two pulls, and the kite came loose.
    """
)


def kite_in_tree(t: TemplateFiller) -> None:
    """A kite is caught in a tree; trying alone does not help, asking does."""
    t.child("h")
    t.let(
        kite="{@color} [kite|kite with a long tail|paper kite|kite shaped like a [fish|bird|star]]",
        tree="[oak|apple|elm|chestnut|walnut|beech]",
    )
    t.begin(
        "[had a {kite}|made a {kite} out of paper and sticks|got a {kite} from {h.his} aunt]",
        "Every morning {h} looked out of the window to see if there was any wind. {h.he} had a {kite}, and it "
        "wanted to fly.",
        "It was {h}'s first time with a kite. The {h.kind} held on to the string of {h.his} {kite} with both hands.",
    )
    t.say(
        "{@fine}, [there was a good wind|the wind was blowing over the hill]. {h} ran across the "
        '[field|meadow|park], and the kite went up, up, up. <It danced among the clouds.> "[Fly|Higher], kite, '
        '[fly|higher]!" {h} {@cried}.',
        "On a windy afternoon {h} took the kite to the [park|hill|meadow]. {h.he} ran and ran, and the kite "
        "[rose|jumped] into the air. <It looked like a bird on its way home.>",
    )
    t.go_on(
        "Then the wind turned. The kite dipped, spun around, and got caught in a tall {tree} tree. {h} pulled the "
        "string. It was stuck.",
        "But the wind was too strong. It blew the kite straight into a {tree} tree, and there it [stayed|hung].",
    )
    t.say(
        "{h} [threw a stick at it|shook the trunk], but nothing fell except [leaves|a few leaves and one surprised "
        "bug]. {h.he} tried to climb, but the lowest branch was too high. {h.he} sat down in the grass and felt "
        "{@sad}.",
        "{h} jumped as high as {h.he} could. {h.he} jumped again. {h.his} fingers did not even touch the [lowest "
        'leaf|first branch]. "[Please come down|Let go of my kite, tree]!" {h.he} said. The tree only rustled.',
    )
    row = t.row("k", KITE_HELPERS)
    if row["who"] in ("a squirrel", "a crow"):
        t.say(
            'Up in the tree sat {k}. It looked at {h}, and {h} looked at it. "[Could you help me|Will you help '
            'me, please]?" asked {h}. "I will give you something [good|tasty] for it." {k.how}',
        )
        t.go_on(
            '"{@thanks}!" said {h}, and {h.he} laid [a nut|a bit of bread|half of {h.his} bun] on a flat stone. '
            "It was gone in [no time|a blink].",
            "{h} kept {h.his} word, and they ate together, one on the grass and one on the branch.",
        )
    else:
        t.say(
            '"What is the matter?" somebody asked. It was {k}. {h} pointed up at the kite. {k.how}',
            '{@then} {k} came along the path. "[That is a fine kite|What a pretty kite], but it should not be in '
            'a tree," {h} heard. "Can you help me?" asked {h}. "[Let me see|I think so]." {k.how}',
        )
        t.aside(
            '"{@thanks}!" said {h}. "[Do you want to fly it too|Would you like a turn]?" So they flew it together.',
            "{h} [jumped for joy|gave a cheer] and held the kite tight.",
        )
    t.say(
        "There was a small [hole|tear] in one corner, and at home {h} [mended it with tape|put a {@color} patch on "
        "it]. The next day the kite flew again, [far away from any tree|over the wide, empty beach|high over the "
        "roofs].",
        "Then {h} went to the middle of the field, where there were no trees at all, and let the kite fly until "
        "[the sun went down|it was time for supper].",
        "From then on, {h} always looked for two things before flying a kite: a good wind, and no trees.",
    )


SKILLS = rows(
    """
    doing; did; first; fear; place; aid; end
    ride a bike; rode; The bike [wobbled to the left|tipped over], and {h} [fell into a bush|landed on the grass]; falling; the [path in the park|quiet lane]; ran beside the bike and held the seat; {h} rode all the way to the [big tree|corner]
    swim; swam; {h} put one foot in and [pulled it out again|shivered]; deep water; the [lake|pool]; held {h.him} under the tummy and said, "Kick, kick, kick"; {h} swam all the way to the [wooden raft|other side]
    skate; skated; {h}'s feet slid [left and right|in two directions], and down {h.he} went; the hard ice; the frozen pond; held both of {h.his} hands and went slowly backward; {h} glided all the way around the pond
    climb the rope ladder; climbed; The ladder [swung|shook], and {h} jumped off; high places; the tree house; stood below and called, "One hand, one foot"; {h} climbed right up to the [tree house|top]
    jump off the low board; jumped; {h} walked to the end, looked down, and [walked back|crawled back]; the big splash; the pool; stood in the water with wide open arms; {h} held {h.his} nose and jumped, and the splash was [glorious|huge]
    row the little boat; rowed; The boat went round and round like a [leaf|top]; the middle of the lake; the lake; sat behind {h.him} and counted, "One, two, pull"; {h} rowed straight to the other shore
    """
)


def learning(t: TemplateFiller) -> None:
    """Something is hard, then a little less hard, then done."""
    t.child("h")
    t.child("f")
    cold = t.row("s", SKILLS)["doing"] == "skate"
    t.let(when="One [cold|frosty|clear] [morning|day|Saturday]" if cold else "{@fine}")
    t.begin(
        "[wanted to learn to {s.doing}|could not {s.doing} yet|wished that {h.he} could {s.doing}]",
        '"I can\'t do it," said {h}. {h.he} was a {@little} {h.kind} who wanted to {s.doing}.',
    )
    t.go_on(
        "{h.his} [big|older] {f.sib} {f} made it look easy.",
        "All the children could do it, even {h.his} {f.sib} {f}.",
        "Every day {h} watched {h.his} {f.sib} {f}, who was very good at it.",
    )
    t.say(
        '{when}, {h} and {f} went to {s.place}. {h} wanted to try. {s.first}. "I give up!" {h.he} {@cried}.',
        '{when}, {h} said, "Today I will {s.doing}." They went to {s.place}. {s.first}. <{@heart}> "I will '
        'never learn it," said {h}.',
    )
    t.aside(
        "{h.he} was afraid of {s.fear}.",
        '"Are you afraid of {s.fear}?" asked {f}. {h} nodded.',
        "{h.he} did not say so, but {h.he} was afraid of {s.fear}.",
    )
    t.say(
        '{f} sat down next to {h.him}. "When I was your age, I [cried|was scared] too," {f} said. "[I tried ten '
        'times|It took me a very long time]. Shall we do it together?" {f} {s.aid}. It went a little better. They '
        "tried again, and again.",
        '"You can\'t do it yet," said {f}. "Yet is a very good word." Then {f} {s.aid}. The first time was bad. '
        "The second time was not so bad. The third time was almost good.",
    )
    t.aside(
        "Every day after [school|breakfast] they went back to {s.place}.",
        "{h} had [a blue knee|wet hair|sore arms], but {h.he} did not stop.",
        '"Do not let go!" {@cried} {h}. "I won\'t," said {f}, "until you tell me to."',
    )
    t.say(
        'And then, on [Friday|Sunday|the fifth day|the last day of the holidays], it happened. "Now!" {h} '
        '{@cried}. {s.end}, all by {h.himself}. "I did it! I did it!" {h.he} {@cried}.',
        "At last the day came. {h} took a deep breath and told {f} to [stand back|watch]. {s.end}. {f} [clapped "
        "and whistled|jumped up and down].",
    )
    t.aside(
        '"I [always knew|said] you could," said {f}. "Yet!"',
        "That evening {h} told [everyone|{h.his} {mom} and {dad}|the cat] how {h.he} {s.did}, [three times|from "
        "beginning to end].",
        "The next week, {h} saw a [smaller|little] child who wanted to {s.doing} and was afraid. {h} sat down and "
        'said, "You can\'t do it yet."',
    )


def storm(t: TemplateFiller) -> None:
    """Friends are caught by a storm; a stranger's hiding place has room for one more."""
    t.animal("h", WOODLAND[:6])
    t.animal("f", WOODLAND[:9])
    t.row(
        "hide",
        rows(
            """
            hide; who; room
            hollow log; toad; The log was narrow, but dry
            cave; bat; The cave was dark, but deep and warm
            hole under a rock; snake; The hole was small, but no rain came in
            barn; goat; The barn smelled of hay
            hollow tree; owl; The tree creaked, but it stood firm
            thick thorn bush; porcupine; The leaves were as thick as a roof
            """
        ),
    )
    t.let(treat="[honey cakes|acorns|blackberries|dried plums|nuts]")
    t.begin("[had a good friend named {f}, a {f.kind}|liked to walk in the woods with {h.his} friend {f}, a {f.kind}]")
    t.say(
        "{@fine}, {h} and {f} went to [gather mushrooms|look for {treat}|visit the waterfall]. <{@sky}> They went "
        "far, [farther than ever before|much farther than they had planned]. Then the sky turned [dark|gray|black "
        "as ink]. Thunder rolled over the hills, and big drops began to fall.",
        "{@fine}, the two friends had a picnic on the other side of the hill. They did not [see|notice] the "
        "[black|dark|gray] clouds until it was [too late|much too late]. With a boom the thunder rolled over the "
        "hills. The wind [tore at the leaves|howled in the trees|bent the tall grass|blew {f} off {f.his} feet].",
    )
    t.aside(
        '"We [must hide|cannot get home in time]!" {@cried} {f}.',
        '{h} was {@afraid}. "Run!" said {f}.',
        "In a minute {h} and {f} were [wet to the skin|dripping wet|soaked].",
    )
    t.creature("n", "{hide.who}", "")
    t.say(
        "They ran until they found a {hide}. But two [eyes|yellow eyes|round eyes] [shone|gleamed|blinked] inside. "
        'A {hide.who} lived there, and [everyone said that {n.he} was mean|{n.he} was known to be grumpy]. "What '
        'do you want?" asked {n}. "[Please may we come in|May we stay until the storm is over]?" said {h}. '
        "{h.his} teeth [chattered|knocked together] with [cold|fear].",
        '{@then} they saw a {hide}. A {hide.who} sat in front of it and blocked the way. "There is only room for '
        'one," said {n}. "Then let {f} go in," said {h}. "No, let {h} go in," said {f}. They stood there in '
        "the rain, each one pushing the other to the door.",
    )
    t.say(
        "{^n} looked at them for a long time. Nobody had ever [asked so nicely|visited before|said please before]. "
        '"Well," {n.he} said at last, "squeeze in." {hide.room}. They sat [close together|side by side|nose to '
        "nose], and {f} shared the {treat} with {n}. The [storm|wind|thunder] roared outside, but inside three "
        "voices [told stories|sang songs].",
        '{^n} was quiet. Then {n.he} moved over, a little, and a little more. "If we all [pull in our '
        'tummies|breathe in|move up], there is room for three," {n} said. {hide.room}. {h} opened the basket, and '
        "they all ate {treat} while the lightning flashed.",
    )
    t.aside(
        '"Do you like the rain?" asked {h}. "Not alone," said {n}.',
        "<{^n} told them how {n.he} had once been afraid of thunder too.>",
        "They counted between the flash and the boom. One, two, three, [four|four, five|four, five, six]. The "
        "storm was [going away|moving off|getting tired].",
    )
    t.say(
        'When the sun came out, a rainbow stood over the [hill|wood|meadow|river]. "Come again," said {n}, '
        '"[even when it is dry|rain or shine]." And they did.',
        "At last the rain stopped. {h} and {f} [walked|ran|splashed] home through the [puddles|wet grass|mud]. The "
        'next morning a {@big} jar of {treat} stood in front of the {hide}, with a note. "For our friends," it '
        "said.",
        'When the sky was blue again, {h} was almost sorry. "I hope it storms on Sunday too," {h.he} said, and '
        "{n} laughed for the first time in years.",
    )


SEEDS = rows(
    """
    seed; grown; eat
    sunflower seed; a sunflower as tall as the roof; {h} gave the seeds to the birds in winter, and kept one for next year
    pumpkin seed; a pumpkin as round as the moon; They made soup and pie, and still there was some left for the neighbors
    bean; a bean plant that climbed to the window; They ate beans for a week, and {h} saved ten for the spring
    apple seed; a little apple tree with five green leaves; "In a few years you will have apples," said {g}. {h} was ready to wait
    carrot seed; a fat, orange carrot; {h} washed it, and it crunched so loudly that the rabbits came to look
    strawberry plant; three red strawberries; There was one for {g}, one for {h}, and one for the blackbird
    tulip bulb; a tulip as red as a fire truck; The bees came to look at it, and so did all the neighbors
    """
)


def garden(t: TemplateFiller) -> None:
    """A seed will not hurry; patience is learned."""
    t.child("h")
    t.elder("g")
    t.row("seed", SEEDS)
    t.begin(
        "[did not like to wait|could not wait for anything|wanted everything right now]",
        '"Is it ready now?" asked {h}. {h.he} was a {h.kind} who did not like to wait.',
        trait="lively|funny|cheerful|busy|bright",
    )
    t.say(
        '{@fine}, {g} put something small into {h.his} hand. "This is a {seed}," said {g}. "Plant it, water it, '
        'and wait." {h} [dug a hole|made a hole with {h.his} thumb] and put it in. {h.he} [gave it|poured on] a '
        "whole can of water.",
        'In spring {h} went to see {g}, who was working in the garden. "May I grow something too?" asked {h}. '
        "{g} gave {h.him} a {seed}. {h} planted it by the [fence|wall|gate] and patted the earth with both hands.",
    )
    t.go_on(
        "Then {h.he} sat down in front of it to watch it grow. {h.he} watched for [an hour|five minutes]. Nothing "
        "happened.",
        "The next morning {h.he} ran out in {h.his} pajamas. There was nothing but [mud|earth|a worm].",
    )
    t.say(
        'After [three|two|four] days {h} dug it up to see [what it was doing|if it was asleep]. "{@ohno}!" said '
        '{g}. "It can\'t grow if you look at it all the time. Put it back and tell it good night."',
        '"Grow!" {h} told it. {h.he} [sang to it|danced around it|shouted at it]. {h.he} watered it [ten times a '
        'day|until there was a pond]. "Slowly," said {g}. "Too much water is as bad as too little."',
        '"It is broken," said {h}. "No," said {g}, "it is [busy|working hard] under the ground, where you '
        "can't see it.\"",
    )
    t.aside(
        '"What can I do while I wait?" asked {h}. "[You can pull weeds|You can chase the snails away|Learn to '
        'whistle]," said {g}.',
        "So {h} waited. <It was the hardest thing {h.he} had ever done.>",
        "Waiting was boring, so {h} made a {@tiny} scarecrow out of [sticks and a sock|an old shirt].",
    )
    t.say(
        "[A week|Ten days|Two weeks] went by. It rained, and the sun [came out|shone], and it rained again. Then, "
        'one morning, there was a [speck|dot] of green. "{g}! Come quickly!" {@cried} {h}. The next day it was '
        "as long as {h.his} [finger|nose].",
        "{h} almost forgot about it. Then one day {h.he} saw two [tiny|small] leaves, folded like hands. {h} got "
        'down on {h.his} tummy and said, "[Hello|Good morning] there."',
    )
    t.go_on(
        "Day by day it grew, and one day there was {seed.grown}.",
        "All [spring and summer|through the long, warm weeks] {h} cared for it, and in the end it was {seed.grown}!",
    )
    t.say("{seed.eat}.", '"It was worth the wait," said {h}. {seed.eat}.', "{seed.eat}.")
    t.aside(
        "",
        '"What shall we plant next?" asked {g}. "Something slow," said {h}.',
        'And the next time somebody said, "Wait," {h} [only smiled|knew how].',
    )


def boat_on_pond(t: TemplateFiller) -> None:
    """A toy boat sails off; the way it comes back is a surprise."""
    t.child("h")
    t.let(
        boat="[paper|wooden|little tin|walnut shell|cork]",
        name="[Sea Star|Brave Duck|Silver Fish|Lucky|Storm Queen|Blue Whale]",
        water="[pond|lake]",
    )
    t.begin(
        "[made a {boat} boat|had a {boat} boat|loved boats and made one of {h.his} own, a {boat} one]",
        '"Ready to sail!" said {h}. {h.he} was a {h.kind} with a {boat} boat and a big plan.',
    )
    t.go_on(
        "It had a {@color} sail, and its name was the {name}.",
        "{h} painted a name on its side: the {name}. <A [button|bead|bean] was the captain.>",
    )
    t.say(
        "{@fine}, {h} carried the boat to the {water} and set it on the water. {@sky} The {name} sailed [past the "
        "reeds|between the lily pads], straight as an arrow. Then a gust of wind filled the sail and pushed it out "
        "to the middle.",
        "{@fine}, {h} and {h.his} {dad} walked to the {water}. The {name} bobbed on the water. {h} held it by a "
        "long string. But the knot was [loose|not tied well]. The string slipped off, and away went the boat.",
    )
    t.aside(
        '"Come back!" {h} {@cried}. The boat did not listen.',
        "{h} reached for it with a stick, but it was too far away.",
        "{h} wanted to wade in after it. But the water was deep, and {h.he} knew that [was not safe|{h.he} must not].",
    )
    how = t.one_of(("duck", "wind", "dog", "fisher"))
    if how == "duck":
        t.say(
            "A duck with [six|five] ducklings swam by. One duckling [climbed on board|hopped into the boat] and "
            "[would not get out|sat down like a captain]. The mother duck quacked and quacked. The boat sat so low "
            "now that it turned around slowly and [bumped into the bank|drifted to the shore], right at {h}'s feet.",
        )
        t.go_on(
            'The duckling hopped out. "Thank you, captain," said {h}, and threw [it|the whole family] some peas.',
        )
    elif how == "wind":
        t.say(
            '{h} sat down on a stone. "[The wind took it|The wind is a thief]," {h.he} said. {@wait} Slowly the '
            "leaves began to turn over on the trees. The wind was changing! Now it blew the other way. The {name} "
            "turned its nose and came sailing back, a little at a time.",
        )
        t.go_on('"[Thank you, wind|What you take, you give back]," {h} said and picked up {h.his} wet boat.')
    elif how == "dog":
        t.say(
            "{@then} a {@big}, shaggy dog ran out of the bushes. Splash! It jumped in and swam to the middle. "
            '"Good dog!" {h} {@cried}. "Bring it here!" The dog took the {name} gently in its mouth and '
            "brought it back to the shore.",
        )
        t.go_on("Then it shook itself, and {h} got as wet as if {h.he} had gone swimming too. {^h.he} {@laughed}.")
    else:
        t.neighbor("n")
        t.say(
            'On the other side sat {n} with a fishing rod. "I have caught nothing all day," {n.he} called. "Let '
            'me try to catch that." The line flew out, whizz! The hook missed. It flew again and [caught the '
            "sail|got hold of the mast]. Slowly {n} pulled the boat in.",
        )
        t.go_on('"That is the best fish I ever caught," said {n}, and {h} {@laughed}.')
    t.say(
        "At home, {h} tied a new string to the boat with [two|three] knots. The {name} had many more trips, but it "
        "never went so far away again.",
        "{h} dried the {name} in the sun. That night it stood on the window sill, and {h} wondered [where it would "
        "have gone|what it had seen out there].",
        '"Where will the {name} sail tomorrow?" asked {h.his} {dad} at supper. "In the bathtub," said {h}. '
        '"[A ship needs a rest|It has been a long day for the captain]."',
    )


def snow_day(t: TemplateFiller) -> None:
    """Snow; something made of it; and what becomes of it."""
    t.child("h")
    t.child("f")
    t.let(
        nose="[carrot|pinecone|red pepper|stick]",
        hat="[an old felt hat|a flower pot|a {@color} cap|a bucket|a straw hat]",
        eyes="[two black buttons|two lumps of coal|two round stones|two bottle caps]",
        name="[Mr. Frost|Snowy|Old Chilly|Captain Flake|Mr. Puff]",
    )
    t.begin(
        "[waited all winter for snow|had never seen deep snow|loved winter best of all]",
        "It was very quiet when {h} woke up, much too quiet. The {h.kind} ran to the window. Snow!",
        '"Snow!" {@cried} {h}. "It snowed in the night!"',
    )
    t.say(
        "One cold morning the whole world was white. There was no school. {h} put on {h.his} [boots|mittens|thick "
        "coat] and ran next door to fetch {f}. The snow [crunched|squeaked] under their feet.",
        "In the night the snow had come, softly, while everybody slept. Now it lay [on every roof|as high as the "
        "fence]. {h} pulled on two pairs of socks and met {f} [at the gate|in the yard].",
    )
    t.go_on(
        '"Let us build a snowman," said {f}. They rolled a big ball, a middle ball, and a small ball. They gave '
        "him {eyes} for eyes, a {nose} for a nose, and {hat} for a hat. They called him {name}.",
        "They built a snowman [as tall as a grown man|taller than {h}]. He had {eyes} for eyes, a {nose} for a "
        'nose, and {hat} on his head. "His name is {name}," said {h}.',
    )
    end = t.one_of(("hungry", "mitten", "thaw"))
    if end == "hungry" and t.slots["nose"] in ("carrot", "red pepper"):
        t.say(
            'But the next morning the nose was gone! "Who took it?" asked {f}. {h} found another {nose}. The '
            "morning after, that one was gone too. There were small tracks in the snow.",
        )
        t.say(
            "They followed the tracks to the hedge. There sat a thin little rabbit, with a bit of {nose} on its "
            'whiskers. "It is hungry," said {h} softly. "The grass is under the snow."',
            'The tracks went to a hole under the shed. Two long ears looked out. "A rabbit!" {@whispered} {f}. '
            '"It only came for its breakfast."',
        )
        t.say(
            "So {name} got a [stick|pinecone] for a nose, and every evening they put a {nose} at his feet. In the "
            "morning it was always gone, and there were tracks that looked like a thank you.",
            "After that, {name} held a plate in his arms with [cabbage leaves|apple peels|hay]. He was the only "
            "snowman in town who ran a restaurant.",
        )
    elif end == "mitten":
        t.say(
            "Then {h} saw that one mitten was missing. It was the one {h.his} grandma had knitted. They [dug in "
            "the snow|looked behind the shed|looked all over the yard]. {h}'s fingers were [red|stiff] with cold. "
            '"{@ohno}," {h.he} said. "It is lost till spring."',
        )
        t.say(
            '{f} looked at {name}. "He has a very fat tummy," {f} said, "and on one side there is a bit of '
            '{@color} wool." {h} looked closer. They had rolled the mitten right into the snowman! But to get it '
            "out, they would have to break him.",
        )
        t.say(
            '"No," said {h}. "He needs it to keep his heart warm." {f} gave {h} one mitten, so that each of '
            "them had one warm hand. The other two hands they held together, inside {f}'s big pocket.",
            '{h} thought about it. Then {h.he} said, "He can keep it till he melts." In [March|spring] there was '
            "a puddle on the grass, and in the middle lay the mitten, clean and [whole|ready for next year].",
        )
    else:
        t.say(
            "All week they [told {name} good morning|said good night to {name}]. Then, on [Friday|Sunday], the sun "
            'came out. Drip, drip, drip. {name} grew thinner. His nose fell off. "He is [sick|going away]!" '
            "{@cried} {h}.",
            "For three days they played with {name}. Then a warm wind blew. {name} leaned to one side, and his hat "
            "slid over his eyes. {f} tried to hold him up. {h} began to cry.",
        )
        t.say(
            '"He is not gone," said {h.his} {mom}. "He is [water now|a puddle now]. The water will go up to the '
            'clouds, and one day it will come down again as snow." {h} [wiped {h.his} eyes|thought about that].',
            "{h} had an idea. {h.he} made one small snowball from the last of {name} and put it [in the freezer|in "
            'a box in the freezer]. "This is his heart," {h.he} told {f}.',
        )
        t.say(
            'The next winter, when the first flakes fell, {h} and {f} ran outside. "Welcome back, {name}!" they '
            "shouted.",
            "They kept his hat and his eyes in a safe place, and when it snowed again, {name} stood in the yard as "
            "if he had only been on a trip.",
        )


BERRIES = "[blueberries|blackberries|raspberries|wild strawberries]"


def berry_picking(t: TemplateFiller) -> None:
    """Picking berries: a full tummy and an empty pail, or one berry farther and lost."""
    people = t.chance(0.6)
    if people:
        t.child("h")
    else:
        t.animal("h", WOODLAND[:5])
    t.let(berry=BERRIES, pail="[pail|basket|tin can|bucket]")
    t.begin(
        "[loved {berry}|liked {berry} more than anything|waited all year for the {berry} to get ripe]",
    )
    t.slots["who"] = t.fill("{h.his} {mom}")
    if t.chance(0.5):
        t.say(
            '{@fine}, {who} gave {h.him} a {pail}. "Please pick {berry} for a pie," she said. "Fill it to the '
            'top." {h} went to the [bushes behind the house|bushes on the hill]. <{@sky}> The {berry} were fat '
            'and ripe. "One for the {pail}," said {h}, "and one for me."',
            '{@fine}, {h} went to pick {berry} with {h.his} {@color} {pail}. "Grandma is coming, and we will make '
            'a pie," said {who}. {h} picked a berry and dropped it in. Plink! The next one [smelled so '
            "good|looked so juicy] that {h.he} ate it.",
        )
        t.go_on(
            "Soon it was one for the {pail} and two for {h}. Then it was one for {h}, and one more for {h}, and "
            "another one for {h}.",
            "Then {h.he} ate another, and another. {h.his} [lips|fingers] turned [purple|red], and {h.his} tummy "
            "got round.",
        )
        t.say(
            "When the sun was low, {h} looked into the {pail}. There were [three|four|five] berries in it. "
            '"{@ohno}!" {h.he} said. "There is no pie in there." {h.his} tummy [hurt|groaned] a little, too.',
            "{@soon} {who} called. {h} looked down. The {pail} was almost empty! {h.he} could [say that a bear "
            "came|put leaves in the bottom], but {h.he} did not want to do that.",
        )
        t.say(
            '{h} walked home slowly. "I ate the pie," {h.he} said, "before it was a pie." {who} looked at '
            '{h.his} [purple|sticky] chin and tried not to laugh. "[Then let us go back together|Come on]," she '
            'said. "Two are faster than one, and you must be full by now."',
            '"I am sorry," said {h} and showed {h.his} [sticky|stained] hands. "The berries went into the wrong '
            '{pail}." {who} {@laughed}. "There are more bushes by the [wall|stream]," she said. "But this time '
            "we sing while we pick. [You can't sing with your mouth full|Singing mouths can't eat].\"",
        )
        t.say(
            "They filled the {pail} before dark. The pie was [golden and sweet|hot and bubbling]. Everybody had "
            "two slices, except {h}, who only wanted a [tiny|very small] one.",
            'In the evening there was pie for everyone. "Don\'t you want any?" they asked {h}. "[Maybe '
            'tomorrow|No, thank you]," said {h}, and {h.he} lay down on the sofa with both hands on {h.his} tummy.'
            if people
            else 'In the evening there was pie for everyone. "Don\'t you want any?" they asked {h}. "[Maybe '
            'tomorrow|No, thank you]," said {h}, and {h.he} lay down with both paws on {h.his} tummy.',
        )
        return
    t.say(
        '{@fine}, {h} went into the woods with {who} to pick {berry}. "Stay where you can [see|hear] me," said '
        "{who}. {h} picked and picked. The next bush always had better berries, and so did the next one after that.",
        '{@fine}, {h} and {who} went berry picking. <{@sky}> "Don\'t go past the big [rock|pine]," {who} said. '
        "But behind it {h.he} saw the [biggest|fattest] {berry} of all, so {h.he} went just a few steps. And a few "
        "more.",
    )
    t.go_on(
        'When {h} looked up, nobody was there. The trees all looked the same. "Mama?" {h.he} called. <Only a '
        "woodpecker answered. Tock, tock, tock.>",
        "{@then} it was very quiet. {h} turned around, and around again. Which way had {h.he} come? {h.his} lip "
        "began to shake.",
    )
    t.slots["who"] = t.slots["h.his"] + " " + t.slots["mom"]
    t.say(
        '{h} wanted to run. Then {h.he} remembered what {who} always said. "If you are lost, stay in one place '
        'and make noise." So {h} sat on a [log|stump], hit the {pail} with a stick, and sang the '
        "[loudest|silliest] song {h.he} knew. Bang, bang, bang!",
        "Then {h.he} saw something on the ground. It was a squashed berry. There was another one, and another! "
        "{h.his} {pail} had a small hole in it, and it had left a trail. Step by step {h} followed the berries "
        "back.",
    )
    t.say(
        '{@soon} the bushes rustled, and there was {who}. "I was so worried!" she said and hugged {h.him} tight. '
        '{h} held on for a long time. <"I only wanted the best ones," {h.he} said.> Going home, they held hands '
        "the whole way."
        if people
        else '{@soon} the bushes rustled, and there was {who}. "I was so worried!" she said and hugged {h.him} '
        'tight. {h} held on for a long time. <"I only wanted the best ones," {h.he} said.> Going home, {h} '
        "kept close to her side.",
        "And there stood {who}, calling {h.his} name. {h} ran into her arms, and {berry} flew everywhere. They had "
        "only a small pie that night, but [it tasted better than any other|{h} gave her the biggest piece].",
    )


PICNIC = rows(
    """
    food; bit
    sandwiches; crumb
    lemon cake; crumb
    sausage rolls; crumb
    peanut butter buns; crumb
    cookies; crumb
    cheese pie; crumb
    """
)


def picnic(t: TemplateFiller) -> None:
    """A picnic has guests with six legs."""
    t.child("h")
    t.child("f")
    t.row("food", PICNIC)
    t.let(spot="[under a big oak|by the brook|on top of the hill|beside the pond]", cloth="{@color} [blanket|cloth]")
    t.begin(
        "[loved picnics|liked to eat outside|had a picnic basket with two lids]",
        '"Let us eat outside today!" said {h}. {h.he} was a {h.kind} who loved picnics.',
    )
    t.say(
        "{@fine}, {h} and {h.his} {f.sib} {f} packed {food}, [plums|grapes|cherries], and a bottle of lemonade. "
        'They spread a {cloth} {spot}. {@sky} "This is the best place in the world," said {f}.',
        "{@fine}, {h} carried the basket and {h.his} friend {f} carried the {cloth}. They sat down {spot}. {@sky} "
        "There were {food}, and there was apple juice in a jar.",
    )
    t.go_on(
        "They played [catch|leapfrog|tag] first, to get hungry.",
        "Before they ate, they ran to [pick flowers|look at a frog|roll down the slope].",
    )
    t.say(
        "When they came back, something was moving on the {cloth}. Ants! [Hundreds of|A long line of] ants marched "
        "up one side of the basket and down the other. Each one carried a {food.bit}[| on its back| over its "
        'head]. "They are stealing our lunch!" {@cried} {h}.',
        "Then {f} gave a shout. Their lunch was walking away! {h} looked closer. Under each {food.bit} [there was "
        "an ant|walked an ant|was a small brown ant], and there were [more and more|hundreds] of them.",
    )
    t.aside(
        '{f} lifted {f.his} foot to stamp on them. "Wait!" said {h}. "[They are so small|Look how strong they are]."',
        "{h} was {@angry} and blew at them. The ants [only held on tighter|did not mind|marched on]. {f} knelt "
        'down. "Look," {f.he} said, "they have a family to feed."',
    )
    t.say(
        "They lay on their tummies and [watched|looked|watched them]. One ant had a {food.bit} three times as big "
        "as itself. It [pulled and pushed|tugged and pushed], and [two|three|some] others came to help. {h} had an "
        "idea. {h.he} put one piece on a flat stone, far from the {cloth}, and made a trail of sugar to it.",
        '"Maybe we can share," said {f}. "They have no [lemonade|spoons|cups] and no [basket|blanket|plates]." '
        "They took a small piece, laid it near the ant hill, and drew a line of sugar in the grass. The first ant "
        "stopped, [waved its feelers|turned around], and went to look.",
    )
    t.go_on(
        "One by one the ants turned and left the {cloth}. Now there were two picnics, a big one and a tiny one.",
        "In [a few minutes|ten minutes|no time] every ant had gone to the other [table|picnic].",
    )
    t.say(
        '{h} and {f} ate the rest. When they packed up, the flat stone was [clean and shiny|empty]. "They did not '
        'leave one {food.bit}," said {f}. "Not like [you|us]."',
        '"Next time we bring more sugar," said {h}. {f} nodded. And on the way home they walked very '
        "[carefully|slowly], looking where they put their feet.",
        "That night {h} thought of the ants in their dark little rooms, with full tummies, telling each other "
        "about the day the {food} fell from the sky.",
    )


def hat_in_wind(t: TemplateFiller) -> None:
    """The wind steals a hat and brings it, by way of many heads, to where it is needed."""
    t.child("h")
    t.let(
        hat="{@color} [hat with a feather|straw hat|hat with a ribbon|wool cap|sun hat]",
        place="[hill|bridge|beach|market square|park]",
    )
    t.begin(
        "[had a {hat}|never went out without {h.his} {hat}|got a {hat} from {h.his} grandma]",
        '"Hold on to your hat," people said when the wind blew. {h} always did. {h.his} hat was a {hat}, and '
        "{h.he} loved it.",
    )
    t.say(
        "One windy day {h} walked over the {place}. Whoosh! The wind took {h.his} hat and [carried|threw] it high "
        'into the air. "[Stop|Wait|Come back]!" {h} {@cried}. "That is my hat!" {^h.he} began to run.',
        "On a windy [morning|afternoon] in fall, {h} was on the {place} when a gust came. It lifted the hat right "
        "off {h.his} head. {h} jumped for it and missed.",
    )
    t.row(
        "a",
        rows(
            """
            a; does
            a cow; The cow looked [surprised|very grand] and said, "Moo."
            a scarecrow; For a moment the scarecrow looked like a king.
            a statue of a general; The general did not thank the wind, but the statue looked pleased.
            a fat goose; The goose could not see a thing and walked into a fence.
            a dog; The dog shook its head, and off it went again.
            """
        ),
    )
    t.say(
        "First [the hat|{h}'s hat|it] landed on {a}. {a.does} {h} came [puffing|running|racing] up and reached for "
        "it. But whoosh, the wind was [quicker|faster].",
        "Down came the hat, right on the head of {a}. {a.does} {h} was almost there. [Whoosh|Whoo|Puff]! "
        "[Away|Off] it [flew|went] again.",
    )
    t.aside(
        "It rolled down the [road|street] like a wheel, jumped over a [wall|ditch], and [danced across the "
        "roofs|sailed over a hedge].",
        "It skipped over the [puddles|stones], and {h} skipped after it.",
        "Over the fence went the hat, and over the fence went {h}.",
    )
    end = t.one_of(("nest", "man", "child"))
    if end == "nest":
        t.say(
            "At last {h} saw it in a [low|small|crooked] tree. {h.he} [climbed up|pulled {h.himself} up] and "
            "[looked|peeked] in. A [small brown|mother] bird sat in the hat as if it were a nest, and under it lay "
            "three blue eggs. The old nest was on the ground, [blown to bits|broken by the wind].",
        )
        t.say(
            '{h} put out {h.his} hand, and then {h.he} pulled it back. "You keep it," {h.he} said. "[You need '
            'it more|I only have one head, but you have three eggs]." All spring {h.his} ears were cold, but when '
            "three tiny beaks looked over the brim, {h} did not mind.",
            '{h} climbed down without a sound. "Where is your hat?" asked {h.his} {mom}. "[Somebody lives in '
            'it|I rented it out]," said {h}. In summer, when the young birds had flown, {h.he} got it back, with '
            "one [soft|spotted] feather in it.",
        )
    elif end == "man":
        t.say(
            "At last it landed on the head of an old man on a bench. He had no hair, and he was [shivering|cold]. "
            '"Oh, how [warm|nice]!" he said. "Is it a gift from the sky?" {h} opened {h.his} mouth to say, '
            '"That is mine." But the old man looked so happy.',
        )
        t.say(
            '"Yes," said {h}. "It is a gift." {h.he} sat with him, and he told {h.him} stories of the sea '
            "until the wind grew tired. The next week a parcel came for {h}. In it was a new cap, knitted by the "
            "old man himself.",
            '"It was mine," said {h}, "but it looks better on you." The old man [laughed|wiped his eyes] and '
            "gave {h.him} his bag of [roasted nuts|plums]. {h} ran home in the wind with {h.his} hair flying. It "
            "felt [wonderful|like being a bird].",
        )
    else:
        t.child("f")
        t.say(
            'At last the hat got stuck on a gate. A {f.kind} {h} had never seen before took it down. "Is it '
            'yours?" {f.he} asked. "It nearly flew past me." "{@thanks}!" said {h}, out of breath. "I ran [a '
            'hundred miles|through the whole town]."',
        )
        t.say(
            'The name of the {f.kind} was {f}, and {f.he} had moved in last week and knew nobody yet. "Now you '
            'know me," said {h}, "and my hat." They [tied it on with a string|took turns wearing it] and played '
            "in the wind until dark.",
            '"I am {f}," said the {f.kind}. "I wish the wind would bring me more visitors." {h} {@laughed}. '
            "Ever since then, the two of them have been friends, and {h} [always says|still says] that the wind "
            "knew where it was going.",
        )


def cat_in_tree(t: TemplateFiller) -> None:
    """A kitten is up a tree and cannot come down; or can it?"""
    t.child("h")
    t.let(
        cat="[Misty|Tiger|Socks|Pickles|Mittens|Smoky|Cinnamon|Pirate]",
        tree="[pear|cherry|plum|apple|maple]",
        color="[gray|black|white|orange|striped|spotted]",
    )
    t.begin(
        "[had a {color} kitten named {cat}|got a {color} kitten and called it {cat}|shared {h.his} bed with a "
        "{color} kitten called {cat}]",
        "{cat} was a {color} kitten, and it belonged to a {h.kind} named {h}.",
    )
    t.aside(
        "{cat} was afraid of [nothing|no dog] and wanted to see everything.",
        "{cat} climbed the curtains, the chairs, and once even {h.his} {dad}.",
    )
    t.say(
        "{@fine}, a [bird|butterfly|bee] flew past, and {cat} ran after it, up the {tree} tree, all the way to the "
        "top. Then [the kitten|{cat}] looked down. The ground was [very far away|terribly far away|so far away]. "
        '"Meow!"',
        "{@day}, the neighbor's dog barked, and {cat} shot up the {tree} tree like a rocket. The dog went home, "
        'but {cat} did not come down. "Meow," it cried. "Meow!"',
    )
    t.say(
        "{h} called sweetly. {h.he} [held up a fish|shook the box of cat food|rolled a ball of wool]. {cat} only "
        "held on tighter. A neighbor came with a ladder, but [the ladder|it] was [too short|broken|much too "
        "short]. Another one came with a [net|blanket]. {cat} hissed. {@soon} half the street stood under the tree "
        "and gave advice.",
        '"[Jump|Come down], {cat}!" said {h}. The kitten shook. {h.his} {dad} put up a ladder, but {cat} climbed '
        "one branch higher. {h.his} {mom} [sang|played the flute]. {cat} climbed higher still. {h} was {@afraid} "
        "that the thin branch would break.",
    )
    t.aside(
        '"We must call the fire truck," said somebody.',
        "It began to get dark.",
        "Everybody talked at the same time.",
    )
    t.say(
        '"Please, all of you, be quiet," said {h}. "You are scaring [it|{cat}|the kitten]." {h.he} sat down '
        "under the tree with a [book|bowl of milk] and did not look up at all. {h.he} [read|talked] in a soft "
        "voice. It grew [still|quiet]. Then there was a scratch, and [another scratch|another one|one more]. "
        "Backward, one paw at a time, {cat} came down.",
        "{h} thought hard. {cat} always came when it heard one thing. {h.he} ran into the kitchen and [opened a "
        "can of fish|shook the milk jug|opened the refrigerator] with the window wide open. Click! In three jumps "
        "{cat} was out of the tree and in the kitchen, as if it had never been [stuck|scared] at all.",
    )
    t.say(
        '{h} [picked up the kitten|held {cat} close] and felt its tiny heart beat. "Next time, look before you '
        'climb," {h.he} {@whispered}. {cat} yawned.',
        "Everyone {@laughed} and went home to supper. And where was {cat} the next morning? [On top of the "
        'curtains|On the roof|At the top of the same tree], of course, saying, "Meow!"',
        "From that day on, a soft old pillow lay under the {tree} tree, just in case. <{cat} liked to sleep on it.>",
    )


def duck_rain(t: TemplateFiller) -> None:
    """A water creature finds its pond dry and goes to look for another."""
    t.animal("h", WATERSIDE)
    t.row("bird", BIRDS)
    t.creature("n", "old {bird}", "")
    t.begin(
        "[loved the pond|could swim before {h.he} could walk|swam from morning till night]",
        trait="happy|cheerful|merry|lively|good",
    )
    t.say(
        "[That|One] summer it did not rain. [Day after day|Week after week] the sun [burned|shone hot], and the "
        "pond got [smaller|smaller and smaller|lower]. First it was as big as a [field|barn floor], then as big as "
        "a [blanket|bed], and then it was only [a puddle|mud]. {h} felt {@sad} and dry.",
        "{@day}, {h} noticed something odd. The water only came up to {h.his} tummy. The next week it only came up "
        "to {h.his} ankles. There had been no rain for [weeks|a month|forty days], and the pond was [going "
        "away|drying up|getting smaller every day].",
    )
    t.aside(
        '"[Where will I swim|What shall I do]?" {h.he} said. "A {h.kind} needs water."',
        "{h.his} [skin|nose|back] itched, and nobody wanted to [play|swim|sit] in the mud.",
    )
    t.say(
        'An {n.kind} sat on a branch. "When I fly, I see a blue lake behind the third hill," {n.he} said. "But '
        'it is a long [way|walk] for [short|little] legs." "Then I will take [many|a lot of] short steps," said '
        "{h}.",
        '"{bird.song}!" said an {n.kind} in the willow. "From up here I can see a big lake. It is far, but I '
        'can show you the way." {h} looked at the [mud|dry mud|last puddle]. Then {h.he} looked at the hills. "I '
        'will [go|try]," {h.he} said.',
    )
    t.say(
        "{h} went over the first hill. It was [hot|noon|dusty]. {h.he} met a [snail|beetle] that was thirsty too. "
        '"Come with me," said {h}, and {h.he} carried it on {h.his} back. On the second hill {h.his} [feet '
        "hurt|legs shook|mouth was dry]. <{^n} sang to cheer {h.him} up.> The third hill was the "
        '[steepest|hardest|highest]. "[Leave me here|Go on without me]," said the small one on {h.his} back. '
        '"Never," said {h}.',
        "They set off [in the cool of the evening|before the sun was up|when the stars came out|as soon as it was "
        'cool]. {^n} flew from tree to tree and called, "This way!" {h} walked, [rested|slept] [in the '
        "shade|under a bush|behind a stone], and walked again. [Twice|Once|Three times] {h.he} wanted to [turn "
        'back|give up|lie down and stay there]. "[Only|Just] one more hill," said {n}. {^n} said that three '
        "times.",
    )
    t.say(
        "And then {h} [smelled|heard|saw] it. Water! {h.he} [slid|tumbled] down the last slope and splashed in. "
        "The lake was [cool and deep|clear and cool|as wide as the sky], and there were [reeds|lilies|willows|tall "
        'grasses] all around it. "[You can be happy here|This is a good place|Here you can stay]," said {n}. And '
        "{h} [was happy|stayed].",
        "From the top they saw it, [wide|cool|still] and blue, with the [sky|clouds] in it. {h} ran, fell, [got "
        'up|rolled over], and jumped. Splash! Other {h.kind}s [looked up|put up their heads]. "Are you new?" '
        'they asked. "[Welcome|Come and play]!"',
    )
    t.aside(
        "When the rain came [at last|again], {h} went back to see the old pond. It was [full|deep] again. Now "
        "{h.he} had two [homes|ponds|places to swim].",
        "Every evening {n} came to the shore, and {h} told {n.him} about the day.",
        "That night the rain began to fall, [soft and steady|drop by drop|warm and soft], and {h} laughed and "
        "opened {h.his} mouth to the drops.",
    )


PLOTS = (
    kite_in_tree,
    learning,
    storm,
    garden,
    boat_on_pond,
    snow_day,
    berry_picking,
    picnic,
    hat_in_wind,
    cat_in_tree,
    duck_rain,
)
